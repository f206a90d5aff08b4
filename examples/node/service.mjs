// A service in Node.js: an HTTP server on a Unix socket. Nothing is installed, nothing comes from Pillion.
//
//     pillion-sidecar run --service reports --push render -- node examples/node/service.mjs
//
// A task is a request, POST /tasks/reports.render with the payload as it was submitted, and the status of the
// answer is the outcome. What takes long answers 200 at once and tells how it goes, in a line of JSON now and
// then; the last line is the outcome, because the status has gone out already.

import { rmSync } from "node:fs";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

const PAGE_MS = 50;

async function render({ title, pages }, attempt) {
  // Where an earlier attempt was stopped or died, its last checkpoint comes with this one.
  const done = attempt.checkpoint?.page ?? 0;
  for (let page = done + 1; page <= pages; page++) {
    await sleep(PAGE_MS, null, { signal: attempt.signal }); // Stands for the work.
    attempt.tell({ progress: page / pages, note: `page ${page} of ${pages}`, checkpoint: { page } });
  }
  return { title, pages, resumed_after: done };
}

const handlers = { "/tasks/reports.render": render };

async function serve(request, response) {
  const id = request.headers["task-id"];
  // Sent after the connection of an attempt that must stop was closed; 204 says that it has stopped.
  if (request.method === "DELETE") return response.writeHead(204).end();
  const handler = handlers[request.url];
  if (!handler) return response.writeHead(404).end(); // Given back, and nobody is charged.

  let payload;
  try {
    payload = await json(request);
  } catch (error) {
    // Fatal, because trying again cannot help: a dead letter that keeps this problem (RFC 9457).
    response.writeHead(422, { "Content-Type": "application/problem+json" });
    return response.end(JSON.stringify({ type: "bad-payload", title: "not JSON", detail: error.message }));
  }

  // The connection is closed when the task was cancelled, has taken too long, or is another host's now.
  const stop = new AbortController();
  response.on("close", () => stop.abort());
  const tell = (line) => response.write(JSON.stringify(line) + "\n");
  const saved = request.headers["task-checkpoint"];
  const checkpoint = saved && JSON.parse(Buffer.from(saved, "base64url"));

  response.writeHead(200, { "Content-Type": "application/x-ndjson" });
  try {
    const result = await handler(payload, { tell, checkpoint, signal: stop.signal });
    tell({ outcome: "success", result });
  } catch (error) {
    if (stop.signal.aborted) return console.log(`${id} was told to stop`);
    tell({ outcome: "retry", error_type: error.name, message: error.message });
  }
  response.end();
}

const path = process.env.PILLION_APP_SOCKET;
rmSync(path, { force: true }); // Of an earlier run that was killed.
const server = createServer(serve).listen(path);
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => server.close());
