import java.io.IOException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Keeps one secret current over the socket of secretwatch; needs nothing but the JDK, 17 or later.
 *
 * <p>It follows the volume in a thread of its own. There, {@code onChange} is called before {@link
 * #current} gives the snapshot: to open what the new credential is for. Where it throws, the last good
 * snapshot stays, and it is called again. Once it has returned, secretwatch is told that the consumer
 * has adopted the revision.
 */
final class SecretClient {
    private static final String DEFAULT_SOCKET = "/run/secretwatch/secretwatch.sock";
    /** How long secretwatch may hold a request until it says that nothing has changed. */
    private static final int POLL_SECONDS = 30;
    /** A sidecar that says nothing for 10 s after that is gone, even where the connection is not. */
    private static final Duration LIMIT = Duration.ofSeconds(POLL_SECONDS + 10);
    /** Between attempts while the sidecar is away: doubled each time, and spread by a random half. */
    private static final long FIRST_DELAY = 100;
    private static final long LONGEST_DELAY = 5000;

    interface OnChange {
        void call(Snapshot snapshot) throws Exception;
    }

    /** An answer that is neither new values nor "nothing has changed". */
    private static final class Refused extends IOException {
        private final int status;
        private final int retryAfter;

        Refused(UnixHttp.Answer answer) {
            super(answer.status() + " " + code(answer));
            status = answer.status();
            retryAfter = Integer.parseInt(answer.headers().getOrDefault("retry-after", "0"));
        }

        private static String code(UnixHttp.Answer answer) {
            try {
                return (String) ((Map<?, ?>) Json.object(answer.body()).get("error")).get("code");
            } catch (Json.BadDocument | RuntimeException error) {
                return "without a code";
            }
        }
    }

    private final String volume;
    private final String consumer;
    private final OnChange onChange;
    private final Path socket;
    private final Optional<Path> tokenFile;
    private final Thread thread = new Thread(this::follow, "secretwatch");
    private volatile boolean isStopped;
    private volatile Snapshot current;

    SecretClient(String volume, String consumer, OnChange onChange) {
        this.volume = volume;
        this.consumer = consumer;
        this.onChange = onChange;
        socket = Path.of(System.getenv().getOrDefault("SECRETWATCH_SOCKET", DEFAULT_SOCKET));
        tokenFile = Optional.ofNullable(System.getenv("SECRETWATCH_TOKEN_FILE")).map(Path::of);
        thread.setDaemon(true);
    }

    /** Begins to follow; values are there a little later. */
    void start() {
        thread.start();
    }

    /** The snapshot in use, or null before the first one. Cheap, from any thread. */
    Snapshot current() {
        return current;
    }

    /** Ends it, in the middle of a long poll as well. */
    void stop() throws InterruptedException {
        isStopped = true;
        thread.interrupt();
        thread.join();
    }

    private void follow() {
        Snapshot seen = null;
        long delay = FIRST_DELAY;
        while (!isStopped) {
            try {
                seen = next(seen);
                use(seen);
                delay = FIRST_DELAY;
            } catch (Exception error) { // whatever it is, the last good value stays
                if (isStopped) return;
                if (error instanceof Refused refused) delay = Math.max(delay, refused.retryAfter * 1000L);
                pause(error, delay);
                delay = Math.min(delay * 2, LONGEST_DELAY);
            }
        }
    }

    private void pause(Exception error, long delay) {
        long pause = ThreadLocalRandom.current().nextLong(delay / 2, delay + 1);
        Snapshot now = current;
        System.err.printf(
                "secretwatch: %s: %s; still using version %s, again in %.1f s%n",
                volume, describe(error), now == null ? "none" : now.version(), pause / 1000.0);
        try {
            Thread.sleep(pause);
        } catch (InterruptedException stopped) {
            // The loop sees why.
        }
    }

    /** The snapshot after the one that was seen last, or that one if nothing has changed. */
    private Snapshot next(Snapshot seen) throws IOException, Json.BadDocument {
        String path = "/v1/secrets/" + encoded(volume);
        if (seen != null) {
            // What is seen and not in use has failed: then only look whether there is a newer one.
            int timeout = seen == current ? POLL_SECONDS : 0;
            path += "?after=" + encoded(seen.revision()) + "&timeout=" + timeout + "s";
        }
        UnixHttp.Answer answer = ask("GET", path, "");
        return answer.status() == 304 ? seen : new Snapshot(answer.body());
    }

    private void use(Snapshot snapshot) throws Exception {
        // After a restart of secretwatch the same values have another revision.
        if (!snapshot.hasValuesOf(current)) onChange.call(snapshot);
        current = snapshot;
        adopt(snapshot.revision());
    }

    private void adopt(String revision) throws IOException {
        String path = "/v1/adoptions/" + encoded(volume) + "/" + encoded(consumer);
        try {
            // A revision needs no escapes.
            ask("PUT", path, "{\"revision\":\"" + revision + "\"}");
        } catch (Refused error) {
            // 409: it has rotated on or was restarted, and the next request gets what is current.
            if (error.status != 409) throw error;
        }
    }

    /** An answer of status 200 to 299 or 304. */
    private UnixHttp.Answer ask(String method, String path, String body) throws IOException {
        Map<String, String> headers = new HashMap<>();
        if (tokenFile.isPresent()) { // read each time: the token may rotate as well
            headers.put("authorization", "Bearer " + Files.readString(tokenFile.get()).strip());
        }
        UnixHttp.Answer answer = UnixHttp.send(socket, method, path, headers, body, LIMIT);
        if (answer.status() >= 300 && answer.status() != 304) throw new Refused(answer);
        return answer;
    }

    private static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    private static String describe(Exception error) {
        boolean quotesNoValue =
                error instanceof IOException
                        || error instanceof Json.BadDocument
                        || error instanceof Snapshot.NoSuchKey;
        // The text of other errors may quote what they are about, which may be a value.
        return quotesNoValue ? error.getMessage() : error.getClass().getSimpleName();
    }
}
