// Submit a task from Node.js, and follow it until it has ended. Nothing is installed.
//
//     node examples/node/submit.mjs reports.render '{"title": "Spring", "pages": 20}'
//
// When the answer to the POST is there, the task is on disk. The events behind it are for people who like to
// watch: a program that has other things to do may go, and ask for the result later, or never.

import { request } from "node:http";
import { text } from "node:stream/consumers";
import { createInterface } from "node:readline";

const [handler, payload] = process.argv.slice(2);
const socketPath = process.env.PILLION_SIDECAR_SOCKET;

function call(method, path, { headers, body } = {}) {
  return new Promise((resolve, reject) => {
    request({ socketPath, method, path, headers }, resolve).on("error", reject).end(body);
  });
}

const accepted = await call("POST", `/v1/tasks/${handler}`, {
  headers: { "Content-Type": "application/json" },
  body: payload,
});
if (accepted.statusCode >= 300) {
  const { detail, hint } = JSON.parse(await text(accepted)); // A problem; its hint says what to do.
  console.error(`${detail}; ${hint}`);
  process.exit(1);
}
const { id } = JSON.parse(await text(accepted));
console.log(id);

let task = {};
const events = await call("GET", `/v1/tasks/${id}/events`);
for await (const line of createInterface({ input: events })) {
  if (!line.startsWith("data: ")) continue;
  task = JSON.parse(line.slice("data: ".length));
  console.log(task.state, task.note ?? "");
}
console.log(task.result ?? task.error);
process.exitCode = task.state === "succeeded" ? 0 : 1;
