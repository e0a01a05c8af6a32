import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/** All values of a volume, of one revision. It does not change, so any thread may keep it. */
final class Snapshot {
    private final String revision;
    private final String version;
    private final Map<String, byte[]> data = new HashMap<>();

    Snapshot(String text) throws Json.BadDocument {
        Map<String, Object> document = Json.object(text);
        if (!(document.get("revision") instanceof String known)
                || !(document.get("data") instanceof Map<?, ?> values)) {
            throw new Json.BadDocument();
        }
        revision = known;
        version = document.get("version") instanceof String label ? label : "-";
        values.forEach(
                (key, value) -> data.put((String) key, Base64.getDecoder().decode((String) value)));
    }

    String revision() {
        return revision;
    }

    String version() {
        return version;
    }

    /** A copy of the value of a key. */
    byte[] bytes(String key) throws NoSuchKey {
        byte[] value = data.get(key);
        if (value == null) throw new NoSuchKey(key);
        return value.clone();
    }

    static final class NoSuchKey extends Exception {
        NoSuchKey(String key) {
            super("no key " + key);
        }
    }

    boolean hasValuesOf(Snapshot other) {
        return other != null
                && data.keySet().equals(other.data.keySet())
                && data.entrySet().stream()
                        .allMatch(entry -> Arrays.equals(entry.getValue(), other.data.get(entry.getKey())));
    }

    @Override
    public String toString() { // no values: it may end up in a log
        return "snapshot " + revision + ", version " + version;
    }
}
