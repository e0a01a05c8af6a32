import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.ProtocolException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;

/**
 * One HTTP request over a Unix socket, which {@code java.net.http} cannot do.
 *
 * <p>It speaks HTTP/1.0: the answer then ends where the connection does, and is never chunked. The
 * channel does not block, so that a time limit and {@link Thread#interrupt} end it.
 */
final class UnixHttp {
    /** Far above the values of a volume (8 MiB) in base64. */
    private static final int MAX_ANSWER = 16 * 1024 * 1024;

    private UnixHttp() {}

    record Answer(int status, Map<String, String> headers, String body) {
        @Override
        public String toString() { // no body: it may end up in a log
            return "answer " + status;
        }
    }

    /** Sends a request and reads its answer to the end. */
    static Answer send(
            Path socket, String method, String path, Map<String, String> headers, String body, Duration limit)
            throws IOException {
        long deadline = System.nanoTime() + limit.toNanos();
        try (SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(socket));
                Selector selector = Selector.open()) {
            channel.configureBlocking(false);
            SelectionKey key = channel.register(selector, 0);
            ByteBuffer request = ByteBuffer.wrap(request(method, path, headers, body));
            while (request.hasRemaining()) {
                if (channel.write(request) == 0) await(key, SelectionKey.OP_WRITE, deadline);
            }
            ByteArrayOutputStream answer = new ByteArrayOutputStream();
            ByteBuffer buffer = ByteBuffer.allocate(16 * 1024);
            for (int size = channel.read(buffer); size >= 0; size = channel.read(buffer)) {
                if (size == 0) await(key, SelectionKey.OP_READ, deadline);
                answer.write(buffer.array(), 0, buffer.position());
                buffer.clear();
                if (answer.size() > MAX_ANSWER) throw new ProtocolException("the answer is too large");
            }
            return parse(answer.toByteArray());
        }
    }

    private static void await(SelectionKey key, int operation, long deadline) throws IOException {
        long millis = (deadline - System.nanoTime()) / 1_000_000;
        if (millis <= 0) throw new InterruptedIOException("timed out");
        key.interestOps(operation);
        key.selector().select(millis);
        key.selector().selectedKeys().clear();
        if (Thread.currentThread().isInterrupted()) throw new InterruptedIOException("interrupted");
    }

    private static byte[] request(String method, String path, Map<String, String> headers, String body) {
        byte[] content = body.getBytes(StandardCharsets.UTF_8);
        StringBuilder head = new StringBuilder();
        head.append(method).append(' ').append(path).append(" HTTP/1.0\r\nhost: localhost\r\n");
        headers.forEach((name, value) -> head.append(name).append(": ").append(value).append("\r\n"));
        if (content.length > 0) head.append("content-length: ").append(content.length).append("\r\n");
        head.append("\r\n");
        ByteArrayOutputStream request = new ByteArrayOutputStream();
        request.writeBytes(head.toString().getBytes(StandardCharsets.ISO_8859_1));
        request.writeBytes(content);
        return request.toByteArray();
    }

    private static Answer parse(byte[] answer) throws IOException {
        // Byte for byte a character, so that positions are the same.
        String text = new String(answer, StandardCharsets.ISO_8859_1);
        int end = text.indexOf("\r\n\r\n");
        if (end < 0) throw new EOFException("the connection ended before the answer did");
        String[] lines = text.substring(0, end).split("\r\n");
        Map<String, String> headers = new HashMap<>();
        for (int i = 1; i < lines.length; i++) {
            int colon = lines[i].indexOf(':');
            if (colon < 0) throw new ProtocolException("a header has no colon");
            headers.put(lines[i].substring(0, colon).toLowerCase(), lines[i].substring(colon + 1).strip());
        }
        int start = end + 4;
        if (answer.length - start < number(headers.getOrDefault("content-length", "0"))) {
            throw new EOFException("the connection ended before the answer did");
        }
        String body = new String(answer, start, answer.length - start, StandardCharsets.UTF_8);
        return new Answer(status(lines[0]), headers, body);
    }

    private static int status(String line) throws ProtocolException {
        String[] words = line.split(" ");
        if (words.length < 2 || !words[0].startsWith("HTTP/1.")) {
            throw new ProtocolException("this is not an answer of HTTP");
        }
        return number(words[1]);
    }

    private static int number(String text) throws ProtocolException {
        try {
            return Integer.parseInt(text);
        } catch (NumberFormatException error) {
            throw new ProtocolException("a number is expected in the answer's head");
        }
    }
}
