import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads a JSON document, as the JDK has no reader: objects are maps, arrays lists. */
final class Json {
    private static final int MAX_DEPTH = 32;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** The object that the text is. No exception quotes it, as it may hold values. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> object(String text) throws BadDocument {
        Json reader = new Json(text);
        Object value = reader.value(0);
        reader.skipSpace();
        if (reader.at != text.length() || !(value instanceof Map)) throw new BadDocument();
        return (Map<String, Object>) value;
    }

    static final class BadDocument extends Exception {
        BadDocument() {
            super("the answer is not a document of secretwatch");
        }
    }

    private Object value(int depth) throws BadDocument {
        if (depth > MAX_DEPTH) throw new BadDocument();
        skipSpace();
        return switch (peek()) {
            case '{' -> members(depth);
            case '[' -> elements(depth);
            case '"' -> string();
            default -> word();
        };
    }

    private Map<String, Object> members(int depth) throws BadDocument {
        Map<String, Object> members = new LinkedHashMap<>();
        expect('{');
        if (accept('}')) return members;
        do {
            skipSpace();
            String name = string();
            expect(':');
            members.put(name, value(depth + 1));
        } while (accept(','));
        expect('}');
        return members;
    }

    private List<Object> elements(int depth) throws BadDocument {
        List<Object> elements = new ArrayList<>();
        expect('[');
        if (accept(']')) return elements;
        do {
            elements.add(value(depth + 1));
        } while (accept(','));
        expect(']');
        return elements;
    }

    private String string() throws BadDocument {
        if (next() != '"') throw new BadDocument();
        StringBuilder string = new StringBuilder();
        for (char c = next(); c != '"'; c = next()) string.append(c == '\\' ? escaped() : c);
        return string.toString();
    }

    private char escaped() throws BadDocument {
        char c = next();
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> codeUnit();
            default -> throw new BadDocument();
        };
    }

    private char codeUnit() throws BadDocument {
        int unit = 0;
        for (int i = 0; i < 4; i++) {
            int digit = Character.digit(next(), 16);
            if (digit < 0) throw new BadDocument();
            unit = unit * 16 + digit;
        }
        return (char) unit;
    }

    private Object word() throws BadDocument {
        int start = at;
        while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) at++;
        String word = text.substring(start, at);
        switch (word) {
            case "true":
                return true;
            case "false":
                return false;
            case "null":
                return null;
            default:
                try {
                    return Double.valueOf(word);
                } catch (NumberFormatException error) {
                    throw new BadDocument();
                }
        }
    }

    private void skipSpace() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
    }

    private char peek() throws BadDocument {
        if (at == text.length()) throw new BadDocument();
        return text.charAt(at);
    }

    private char next() throws BadDocument {
        char c = peek();
        at++;
        return c;
    }

    private boolean accept(char c) throws BadDocument {
        skipSpace();
        if (peek() != c) return false;
        at++;
        return true;
    }

    private void expect(char c) throws BadDocument {
        if (!accept(c)) throw new BadDocument();
    }
}
