// Daemons and phones that use OkHttp. They are as strict as the Android app: at a binary message they close with 1003.
// SWITCHBOARD_RELAY names the relay. Arguments select tests by words of their names.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.lang.reflect.Method;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;

public final class Strict {
    private static final String PROGRAM =
            System.getenv().getOrDefault("SWITCHBOARD_RELAY", "target/debug/switchboard-relay");

    // More than any test needs.
    private static final int LIMIT_S = 20;

    private static final String ALREADY_CLAIMED = "closed 4409 server-id already claimed";
    private static final String NO_SERVER = "closed 4404 no server with that id";
    private static final String RECLAIMED = "closed 4404 binary reclaimed server-id";
    private static final String TOO_MANY_PHONES = "closed 4429 too many phones for server-id";
    private static final String HEARTBEAT_TIMEOUT = "closed 1011 heartbeat timeout";
    private static final String SHUTTING_DOWN = "closed 1001 shutting down";

    private static final int MAX_FRAME = 262_144;

    private static final OkHttpClient CLIENT = new OkHttpClient();

    private interface Test {
        void run() throws Exception;
    }

    public static void main(String[] words) {
        Map<String, Test> tests = new LinkedHashMap<>();
        tests.put("a binary message is answered with 1003", Strict::strictness);
        tests.put("a day in the life", Strict::day);
        tests.put("frames of all kinds, both ways", Strict::frames);
        tests.put("many frames, in order", Strict::order);
        tests.put("frames of a peer that sends binary messages", Strict::binaryMessages);
        tests.put("a message that is too large", Strict::tooLarge);
        tests.put("pings of both sides are answered", Strict::pings);
        tests.put("refused after the upgrade", Strict::refused);
        tests.put("refused before the upgrade", Strict::refusedBefore);
        tests.keySet().removeIf(name -> !Arrays.stream(words).allMatch(name::contains));

        int passed = 0;
        for (Map.Entry<String, Test> test : tests.entrySet()) {
            try {
                test.getValue().run();
                passed++;
                System.out.println("ok: " + test.getKey());
            } catch (Throwable problem) {
                System.out.println("FAILED: " + test.getKey());
                problem.printStackTrace(System.out);
            }
        }
        int failed = tests.size() - passed;
        System.out.println(passed + " passed, " + failed + " failed");
        // OkHttp's threads would keep the program running for another minute.
        System.exit(failed == 0 && passed > 0 ? 0 : 1);
    }

    private static void day() throws Exception {
        try (Relay relay = new Relay("--probe-timeout", "1s", "--heartbeat-interval", "200ms")) {
            // In the morning the phone is up first.
            relay.anyPhone().expect("open", NO_SERVER);
            Peer daemon = relay.daemon();
            Peer phone = relay.phone(daemon);
            Peer tablet = relay.phone(daemon);
            for (String word : List.of("one", "two")) {
                talk(daemon, phone, word);
                talk(daemon, tablet, word);
            }

            // The phone leaves; the daemon closes the tablet.
            phone.webSocket.close(1000, null);
            phone.expect("closed 1000 ");
            daemon.expect(notice(phone, 1000));
            daemon.send(envelope(tablet, "\"good bye\"", 4001));
            tablet.expect("text \"good bye\"", "closed 4001 ");

            // The phone loses its network.
            phone = relay.phone(daemon);
            phone.webSocket.cancel();
            daemon.expect(notice(phone, 1001));

            // The daemon drops silently, and comes back while its phone waits.
            phone = relay.phone(daemon);
            daemon.webSocket.cancel();
            relay.counts(0, 1);
            daemon = relay.daemon();
            phone.expect(RECLAIMED);
            phone = relay.phone(daemon);
            talk(daemon, phone, "three");

            // Somebody starts it a second time.
            relay.anyDaemon().expect("open", ALREADY_CLAIMED);
            talk(daemon, phone, "four");

            // It hangs, and another machine takes over.
            daemon.hang();
            phone.send("\"anybody?\"");
            daemon.expect("text " + envelope(phone, "\"anybody?\""));
            Peer successor = relay.anyDaemon();
            successor.expect("open");
            phone.expect(RECLAIMED);
            daemon.goOn();
            daemon.expect(HEARTBEAT_TIMEOUT);
            phone = relay.phone(successor);
            talk(successor, phone, "five");

            // At night the relay stops.
            relay.process.destroy();
            successor.expect(SHUTTING_DOWN);
            phone.expect(SHUTTING_DOWN);
        }
    }

    private static void talk(Peer daemon, Peer phone, String word) throws Exception {
        say(phone, daemon, "{\"ask\":\"" + word + "\"}");
        answer(daemon, phone, "{\"answer\":\"" + word + "\"}");
    }

    private static void say(Peer phone, Peer daemon, String frame) throws Exception {
        phone.send(frame);
        daemon.expect("text " + envelope(phone, frame));
    }

    private static void answer(Peer daemon, Peer phone, String frame) throws Exception {
        daemon.send(envelope(phone, frame));
        phone.expect("text " + frame);
    }

    private static void frames() throws Exception {
        try (Relay relay = new Relay()) {
            Peer daemon = relay.daemon();
            Peer phone = relay.phone(daemon);
            for (String frame : List.of("\"\"", "{}", "0", "\"Grüße, Ωμέγα, 你好, 🐢\"", "{ \"Spaß\" :\t[ ] }")) {
                say(phone, daemon, frame);
                answer(daemon, phone, frame);
            }
            say(phone, daemon, large(MAX_FRAME));
            answer(daemon, phone, large(MAX_FRAME - envelope(phone, "").length()));
        }
    }

    // A frame of that many bytes. Each character has three bytes, so buffers end within a character.
    private static String large(int size) {
        int content = size - 2;
        return '"' + "x".repeat(content % 3) + "€".repeat(content / 3) + '"';
    }

    private static void order() throws Exception {
        try (Relay relay = new Relay()) {
            Peer daemon = relay.daemon();
            Peer phone = relay.phone(daemon);
            for (int i = 0; i < 1000; i++) {
                phone.send("[" + i + "]");
                daemon.send(envelope(phone, "{\"ü\":" + i + "}"));
            }
            for (int i = 0; i < 1000; i++) {
                daemon.expect("text " + envelope(phone, "[" + i + "]"));
                phone.expect("text {\"ü\":" + i + "}");
            }
        }
    }

    private static void binaryMessages() throws Exception {
        try (Relay relay = new Relay()) {
            Peer daemon = relay.daemon();
            Peer phone = relay.phone(daemon);
            phone.webSocket.send(ByteString.encodeUtf8("\"schön\""));
            daemon.expect("text " + envelope(phone, "\"schön\""));
            daemon.webSocket.send(ByteString.encodeUtf8(envelope(phone, "\"danke schön\"")));
            phone.expect("text \"danke schön\"");
        }
    }

    private static void tooLarge() throws Exception {
        try (Relay relay = new Relay()) {
            Peer daemon = relay.daemon();
            Peer phone = relay.phone(daemon);
            phone.send(large(MAX_FRAME + 1));
            String end = phone.next();
            check(end.startsWith("closed 1009 "), "1009 for the phone, not: " + end);
            daemon.expect(notice(phone, 1001));
        }
    }

    private static void pings() throws Exception {
        try (Relay relay = new Relay("--heartbeat-interval", "200ms")) {
            // OkHttp gives up if a ping is not answered before it sends the next one.
            OkHttpClient pinging = CLIENT.newBuilder().pingInterval(1, TimeUnit.SECONDS).build();
            Peer daemon = relay.daemon();
            Peer phone = relay.connect(pinging, "phone", relay.request("/v1/client"));
            phone.expect("open");
            relay.meet(daemon, phone);
            until("pongs for the phone", () -> phone.count("receivedPongCount") >= 2);
            until("pings for the phone", () -> phone.count("receivedPingCount") >= 3);
            until("pings for the daemon", () -> daemon.count("receivedPingCount") >= 3);
            talk(daemon, phone, "still there?");
        }
    }

    private static void refused() throws Exception {
        try (Relay relay = new Relay("--max-phones", "1")) {
            relay.anyPhone().expect("open", NO_SERVER);
            Peer daemon = relay.daemon();
            relay.anyDaemon().expect("open", ALREADY_CLAIMED);
            Peer phone = relay.phone(daemon);
            relay.anyPhone().expect("open", TOO_MANY_PHONES);
            talk(daemon, phone, "still there?");
        }
    }

    private static void refusedBefore() throws Exception {
        try (Relay relay = new Relay("--rate-burst", "3", "--max-connections", "1")) {
            Request withoutToken = relay.request("/v1/client").newBuilder().removeHeader("X-Pyrycode-Token").build();
            relay.connect(CLIENT, "phone without a token", withoutToken).expect("refused 400");
            Peer daemon = relay.daemon();
            relay.anyPhone().expect("refused 503");
            relay.anyPhone().expect("refused 429");
            daemon.webSocket.close(1000, null);
            daemon.expect("closed 1000 ");
        }
    }

    // Tests the strictness itself, against a raw server.
    private static void strictness() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            server.setSoTimeout(LIMIT_S * 1000);
            String url = "http://127.0.0.1:" + server.getLocalPort();
            Peer phone = new Peer("phone", CLIENT, new Request.Builder().url(url).build());
            try (Socket socket = server.accept()) {
                socket.setSoTimeout(LIMIT_S * 1000);
                InputStream in = socket.getInputStream();
                Matcher key = Pattern.compile("Sec-WebSocket-Key: (\\S+)").matcher(head(in));
                check(key.find(), "a key");
                ByteString accept = ByteString.encodeUtf8(key.group(1) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").sha1();
                OutputStream out = socket.getOutputStream();
                out.write(ByteString.encodeUtf8("HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        + "Sec-WebSocket-Accept: " + accept.base64() + "\r\n\r\n").toByteArray());
                out.write(new byte[] {(byte) 0x82, 2, '{', '}'});
                phone.expect("open", "a binary message, answered with 1003");
                // A close frame, masked and two bytes long; the mask; the code.
                byte[] close = in.readNBytes(8);
                check(close[0] == (byte) 0x88 && close[1] == (byte) 0x82, "a close frame");
                int code = ((close[2] ^ close[6]) & 0xff) << 8 | (close[3] ^ close[7]) & 0xff;
                check(code == 1003, "1003, not " + code);
            } finally {
                phone.webSocket.cancel();
            }
        }
    }

    private static String head(InputStream in) throws IOException {
        StringBuilder head = new StringBuilder();
        while (head.indexOf("\r\n\r\n") < 0) {
            int next = in.read();
            check(next >= 0, "a whole request");
            head.append((char) next);
        }
        return head.toString();
    }

    // An envelope as a daemon sends and receives it. `frame` is JSON already.
    private static String envelope(Peer phone, String frame) {
        return "{\"conn_id\":\"" + phone.connId + "\",\"frame\":" + frame + "}";
    }

    private static String envelope(Peer phone, String frame, int closeCode) {
        return "{\"conn_id\":\"" + phone.connId + "\",\"frame\":" + frame + ",\"close_code\":" + closeCode + "}";
    }

    private static String notice(Peer phone, int code) {
        return "text {\"conn_id\":\"" + phone.connId + "\",\"close_code\":" + code + "}";
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError("expected: " + what);
        }
    }

    private static void until(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        while (!condition.call()) {
            check(System.nanoTime() < end, what + " in " + LIMIT_S + " s");
            Thread.sleep(5);
        }
    }

    // Starts a relay, which must exit with status 0 and without a panic when the test ends.
    private static final class Relay implements AutoCloseable {
        private static final Pattern ADDRESS = Pattern.compile("\\blistening address=(\\S+)");

        final Process process;
        private final StringBuffer log = new StringBuffer();
        private final Thread reader = new Thread(this::readLog);
        private final List<Peer> peers = new ArrayList<>();
        private final String url;

        Relay(String... flags) throws Exception {
            List<String> command = new ArrayList<>(List.of(PROGRAM, "--listen", "127.0.0.1:0", "--metrics-listen",
                    "off"));
            command.addAll(List.of(flags));
            if (!command.contains("--rate-burst")) {
                command.addAll(List.of("--rate-burst", "0"));
            }
            process = new ProcessBuilder(command).redirectErrorStream(true).start();
            reader.setDaemon(true);
            reader.start();
            Matcher address = ADDRESS.matcher(log);
            try {
                until("an address in the log", () -> !process.isAlive() || address.reset().find());
                check(process.isAlive(), "a relay that listens; its log:\n" + log);
            } catch (AssertionError problem) {
                process.destroyForcibly();
                throw problem;
            }
            url = "http://" + address.group(1);
        }

        private void readLog() {
            try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
                lines.lines().forEach(line -> log.append(line).append('\n'));
            } catch (IOException | UncheckedIOException killed) {
                log.append(killed);
            }
        }

        @Override
        public void close() throws Exception {
            try {
                peers.forEach(peer -> peer.webSocket.cancel());
                process.destroy();
                check(process.waitFor(LIMIT_S, TimeUnit.SECONDS), "the relay's end in time; its log:\n" + log);
                reader.join(LIMIT_S * 1000);
                check(process.exitValue() == 0, "0, not " + process.exitValue() + ", from the relay; its log:\n" + log);
                check(log.indexOf("panicked") < 0, "no panic in the relay's log:\n" + log);
            } finally {
                process.destroyForcibly();
            }
            for (Peer peer : peers) {
                check(!peer.gotBinary, peer + " gets text messages only");
            }
        }

        String health() throws IOException {
            try (Response response = CLIENT.newCall(new Request.Builder().url(url + "/healthz").build()).execute()) {
                return response.body().string();
            }
        }

        void counts(int daemons, int phones) throws Exception {
            String counts = "\"connected_binaries\":" + daemons + ",\"connected_phones\":" + phones + ",";
            until(counts, () -> health().contains(counts));
        }

        Request request(String path) {
            Request.Builder request = new Request.Builder().url(url + path).header("X-Pyrycode-Server", "home");
            if (path.equals("/v1/server")) {
                request.header("X-Pyrycode-Version", "1.0");
            } else {
                request.header("X-Pyrycode-Token", "t");
            }
            // The User-Agent is OkHttp's own.
            return request.build();
        }

        Peer connect(OkHttpClient client, String name, Request request) {
            Peer peer = new Peer(name, client, request);
            peers.add(peer);
            return peer;
        }

        // These may be refused.
        Peer anyDaemon() {
            return connect(CLIENT, "daemon", request("/v1/server"));
        }

        Peer anyPhone() {
            return connect(CLIENT, "phone", request("/v1/client"));
        }

        // A daemon that has claimed.
        Peer daemon() throws Exception {
            Peer daemon = anyDaemon();
            daemon.expect("open");
            until("a claim", () -> health().contains("\"connected_binaries\":1,"));
            return daemon;
        }

        // A phone that has registered.
        Peer phone(Peer daemon) throws Exception {
            Peer phone = anyPhone();
            phone.expect("open");
            meet(daemon, phone);
            return phone;
        }

        // The daemon learns the phone's conn-id from its first frame.
        void meet(Peer daemon, Peer phone) throws Exception {
            phone.send("\"hello\"");
            String hello = daemon.next();
            Matcher envelope = Pattern.compile("text \\{\"conn_id\":\"([^\"]+)\",\"frame\":\"hello\"}").matcher(hello);
            check(envelope.matches(), "a hello for the " + daemon + ", not: " + hello);
            phone.connId = envelope.group(1);
        }
    }

    // A client that records its events as lines, in order.
    private static final class Peer extends WebSocketListener {
        final WebSocket webSocket;
        String connId;
        volatile boolean gotBinary;
        private final String name;
        private final BlockingQueue<String> events = new LinkedBlockingQueue<>();
        private volatile CountDownLatch hanging = new CountDownLatch(0);

        Peer(String name, OkHttpClient client, Request request) {
            this.name = name;
            webSocket = client.newWebSocket(request, this);
        }

        @Override
        public String toString() {
            return name;
        }

        void send(String message) {
            check(webSocket.send(message), "an open " + name);
        }

        String next() throws InterruptedException {
            String event = events.poll(LIMIT_S, TimeUnit.SECONDS);
            return event == null ? "nothing in " + LIMIT_S + " s" : event;
        }

        void expect(String... expected) throws InterruptedException {
            for (String one : expected) {
                String event = next();
                check(event.equals(one), "for the " + name + ": " + brief(one) + "\n but it got: " + brief(event));
            }
        }

        private static String brief(String event) {
            return event.length() <= 200 ? event : event.substring(0, 200) + "... of " + event.length();
        }

        // After its next message it reads nothing, and so answers no ping.
        void hang() {
            hanging = new CountDownLatch(1);
        }

        void goOn() {
            hanging.countDown();
        }

        // A counter that OkHttp keeps for its own tests.
        int count(String name) throws ReflectiveOperationException {
            Method method = webSocket.getClass().getDeclaredMethod(name);
            method.setAccessible(true);
            return (int) method.invoke(webSocket);
        }

        @Override
        public void onOpen(WebSocket webSocket, Response response) {
            events.add("open");
        }

        @Override
        public void onMessage(WebSocket webSocket, String text) {
            events.add("text " + text);
            try {
                hanging.await(LIMIT_S, TimeUnit.SECONDS);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }

        @Override
        public void onMessage(WebSocket webSocket, ByteString bytes) {
            gotBinary = true;
            webSocket.close(1003, null);
            events.add("a binary message, answered with 1003");
        }

        @Override
        public void onClosing(WebSocket webSocket, int code, String reason) {
            // OkHttp leaves the reply to its user.
            webSocket.close(1000, null);
        }

        @Override
        public void onClosed(WebSocket webSocket, int code, String reason) {
            events.add("closed " + code + " " + reason);
        }

        @Override
        public void onFailure(WebSocket webSocket, Throwable problem, Response response) {
            events.add(response == null ? "failed " + problem : "refused " + response.code());
        }
    }
}
