/** An app that reads its password from a variable, once: it has to be restarted to see a new one. */
class App {
    public static void main(String[] arguments) throws InterruptedException {
        // An example shows what it has; a real app would connect with it.
        System.out.println("connected with " + System.getenv("PASSWORD"));
        // SIGTERM runs the shutdown hooks: here a real app closes its connections.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("closed")));
        Thread.currentThread().join();
    }
}
