/** An app that goes on when its credential rotates: java -cp out App [VOLUME [CONSUMER]] */
public final class App {
    /** Stands for opening a connection pool: throw where the new credential does not work. */
    private static void connect(Snapshot snapshot) throws Snapshot.NoSuchKey {
        int size = snapshot.bytes("password").length;
        System.out.printf("using version %s, a password of %d bytes%n", snapshot.version(), size);
    }

    public static void main(String[] args) throws InterruptedException {
        String volume = args.length > 0 ? args[0] : "db";
        String consumer = args.length > 1 ? args[1] : "java";
        SecretClient secret = new SecretClient(volume, consumer, App::connect);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(secret)));
        secret.start();
        Thread.currentThread().join(); // an app works here, with one secret.current() per request
    }

    /** SIGTERM ends a JVM through its hooks, with status 143. */
    private static void stop(SecretClient secret) {
        try {
            secret.stop();
            System.out.println("stopped");
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
