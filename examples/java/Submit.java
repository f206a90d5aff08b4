import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.util.UUID;

/**
 * Submits a task from Java 17 or later and prints its status when it has ended. Nothing is installed.
 *
 * <pre>java examples/java/Submit.java files.checksum "some text"</pre>
 *
 * <p>java.net.http knows no Unix sockets, but HTTP is a text, and a request that asks for the connection to be
 * closed has its answer at an end when the connection is. In an application, Netty and Jetty do the same.
 */
class Submit {
    public static void main(String[] arguments) throws IOException {
        var handler = arguments[0];
        var payload = arguments[1].getBytes(UTF_8);

        // Made once for each thing that is to be done, not for each try to submit it: whoever is in doubt
        // whether a submission arrived sends it again with its key, and there is still one task.
        var key = UUID.randomUUID();
        var answer = post("/v1/tasks/" + handler, payload,
                "Idempotency-Key: \"" + key + "\"",
                "Content-Type: text/plain; charset=utf-8",
                "Prefer: wait=60");

        System.out.println(answer.body());
        System.exit(answer.status() < 300 ? 0 : 1);
    }

    record Answer(int status, String body) {}

    static Answer post(String path, byte[] body, String... headers) throws IOException {
        var address = UnixDomainSocketAddress.of(System.getenv("PILLION_SIDECAR_SOCKET"));
        try (var channel = SocketChannel.open(address)) {
            var head = "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    + "Content-Length: " + body.length + "\r\n"
                    + String.join("\r\n", headers) + "\r\n\r\n";
            var out = Channels.newOutputStream(channel);
            out.write(head.getBytes(UTF_8));
            out.write(body);

            var answer = new String(Channels.newInputStream(channel).readAllBytes(), UTF_8);
            var end = answer.indexOf("\r\n\r\n");
            var status = Integer.parseInt(answer.substring(9, 12)); // HTTP/1.1 202 Accepted
            return new Answer(status, answer.substring(end + 4));
        }
    }
}
