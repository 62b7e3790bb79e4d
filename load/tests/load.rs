//! Runs the program against a relay in this process.

use std::ffi::OsStr;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use switchboard_relay::{Config, Server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Longer than any test needs.
const LIMIT: Duration = Duration::from_secs(60);

const SHORT: &str = " --duration 250ms";

async fn within<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test hangs")
}

/// Starts a relay that runs until the test ends.
async fn relay(flags: &[&str]) -> SocketAddr {
    let args = ["switchboard-relay", "--listen", "127.0.0.1:0"];
    let args = args.iter().chain(&["--metrics-listen", "off"]).chain(flags);
    let server = Server::bind(Config::from_args(args).expect("good flags")).await;
    let server = server.expect("a free port");
    let address = server.address();
    tokio::spawn(server.run(futures_util::stream::pending()));
    address
}

/// Starts a relay that sends binary messages to the peers at one endpoint. It answers phones itself.
async fn relay_of_binary_messages(endpoint: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(send_binary_messages(stream, endpoint));
        }
    });
    address
}

async fn send_binary_messages(stream: TcpStream, endpoint: &str) {
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let note = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, note).await.expect("an upgrade");
    if path == endpoint && path == "/v1/server" {
        let greeting = socket.send(Message::binary("{}")).await;
        greeting.expect("it is connected");
    }
    while let Some(Ok(message)) = socket.next().await {
        let answer = match message {
            Message::Text(text) if path == endpoint => Message::Binary(text.into()),
            message => message,
        };
        // The peer may have disconnected after a binary message.
        let _ = socket.send(answer).await;
    }
}

fn program(flags: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_switchboard-load"));
    program
        .args(flags.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    program
}

async fn output(flags: &str) -> Output {
    let output = program(flags).output();
    within(output).await.expect("it runs")
}

/// Runs the program against the relay and returns its measurements.
async fn measure(relay: SocketAddr, flags: &str) -> Value {
    let flags = format!("--url ws://{relay} --json --warmup 100ms {flags}");
    summary(&output(&flags).await)
}

fn summary(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn figure(summary: &Value, key: &str) -> f64 {
    let figure = summary[key].as_f64();
    figure.unwrap_or_else(|| panic!("{key} is not a number: {summary}"))
}

fn assert_forwarded(summary: &Value) {
    assert!(figure(summary, "frames_per_second") > 10.0, "{summary}");
    let latencies =
        ["p50", "p99", "p99_9", "max"].map(|at| figure(summary, &format!("latency_{at}_us")));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");
    assert_eq!(summary["undelivered_frames"], 0, "{summary}");
    assert_eq!(summary["errors"], Value::Object(serde_json::Map::new()));
}

fn assert_one_line_error(output: &Output, code: i32, part: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        last.starts_with("error: ") && last.contains(part),
        "{stderr}"
    );
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn frames_of_every_size_get_through_in_every_direction() {
    let relay = relay(&["--rate-burst", "0"]).await;
    for direction in ["echo", "to-binary", "to-phone"] {
        for frame in [26, 16_384] {
            let flags =
                format!("--servers 2 --phones 3 --direction {direction} --frame {frame}{SHORT}");
            let summary = measure(relay, &flags).await;
            assert_forwarded(&summary);
            assert_eq!(
                (&summary["connections"], &summary["direction"]),
                (&8.into(), &direction.into())
            );
        }
    }
}

#[tokio::test]
async fn a_binary_message_is_an_error_of_its_own_kind() {
    let to_binaries = relay_of_binary_messages("/v1/server").await;
    let summary = measure(to_binaries, &format!("--servers 3 --phones 2{SHORT}")).await;
    let errors = serde_json::json!({"binary: binary message received": 3});
    assert_eq!(summary["errors"], errors);
    let to_phones = relay_of_binary_messages("/v1/client").await;
    let output = output(&format!("--url ws://{to_phones} --servers 1 --phones 2")).await;
    assert_one_line_error(
        &output,
        1,
        "no phone could connect: not registered: binary message received",
    );
}

#[tokio::test]
async fn a_rate_is_kept() {
    let relay = relay(&["--rate-burst", "0"]).await;
    for direction in ["to-binary", "to-phone"] {
        let flags = "--servers 2 --phones 2 --rate 500 --duration 1s";
        let flags = format!("{flags} --direction {direction}");
        let summary = measure(relay, &flags).await;
        assert_forwarded(&summary);
        let rate = figure(&summary, "frames_per_second");
        assert!((250.0..750.0).contains(&rate), "{rate}");
    }
}

#[tokio::test]
async fn the_process_of_the_relay_is_measured() {
    let relay = relay(&["--rate-burst", "0"]).await;
    let flags = format!("--idle --servers 2 --pid {}{SHORT}", std::process::id());
    let summary = measure(relay, &flags).await;
    assert_eq!(
        (&summary["mode"], &summary["frames"]),
        (&"idle".into(), &Value::Null)
    );
    assert!(figure(&summary, "relay_memory_bytes") > 1e5);
    assert!(summary["relay_memory_bytes_per_connection"].is_number());
}

#[tokio::test]
async fn a_storm_opens_and_closes_connections() {
    let relay = relay(&["--rate-burst", "0"]).await;
    let summary = measure(relay, &format!("--storm 4{SHORT}")).await;
    assert!(figure(&summary, "storm_connections_per_second") > 1.0);
    assert!(figure(&summary, "connect_p50_us") > 0.0);
    assert_eq!(summary["errors"], Value::Object(serde_json::Map::new()));
}

#[tokio::test]
async fn phones_that_do_not_read_are_dropped_and_the_others_are_served() {
    // The outbox has room for more than a second: the phones that read may be slow on a busy machine.
    let relay = relay(&[
        "--rate-burst",
        "0",
        "--outbox",
        "16777216",
        "--write-timeout",
        "200ms",
    ])
    .await;
    let flags = "--servers 1 --phones 3 --slow 1 --direction to-phone --frame 100000 --rate 300";
    let summary = measure(relay, &format!("{flags} --duration 1500ms")).await;
    assert_forwarded(&summary);
    assert_eq!(summary["slow_phones_dropped"], 1, "{summary}");
}

/// Writes a certificate for 127.0.0.1 and its key to these files.
fn certificate(cert: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    std::fs::write(cert, made.cert.pem()).expect("a file");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("a file");
}

#[tokio::test]
async fn tls_connects_only_to_relays_that_the_flags_trust() {
    let files = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [cert, key, stranger, strangers_key] =
        ["cert", "key", "stranger", "strangers-key"].map(|name| files.join(name));
    certificate(&cert, &key);
    certificate(&stranger, &strangers_key);
    let [tls_cert, tls_key] = [&cert, &key].map(|file| file.to_str().expect("UTF-8"));
    let flags = [
        "--rate-burst",
        "0",
        "--tls-cert",
        tls_cert,
        "--tls-key",
        tls_key,
    ];
    let relay = relay(&flags).await;
    let run = async |trust: &[&OsStr]| {
        let flags = format!("--url wss://{relay} --servers 2 --phones 2 --json{SHORT}");
        let output = program(&flags).args(trust).output();
        within(output).await.expect("it runs")
    };
    assert_forwarded(&summary(&run(&["--insecure".as_ref()]).await));
    let ca = OsStr::new("--ca");
    assert_forwarded(&summary(&run(&[ca, cert.as_ref()]).await));
    assert_one_line_error(
        &run(&[ca, stranger.as_ref()]).await,
        1,
        "skip verification with --insecure",
    );
}

#[tokio::test]
async fn a_refused_upgrade_comes_with_advice() {
    let address = relay(&["--rate-burst", "1"]).await;
    // The connections come from 250 addresses in turn.
    let refused = output(&format!("--url ws://{address} --servers 260 --phones 1")).await;
    assert_one_line_error(&refused, 1, "429 Too Many Requests");
    assert_one_line_error(&refused, 1, "--rate-burst 0");
}

#[tokio::test]
async fn an_unreachable_or_refusing_relay_is_a_one_line_error() {
    let unreachable = output("--url ws://127.0.0.1:1").await;
    assert_one_line_error(
        &unreachable,
        1,
        "no relay at 127.0.0.1:1: connection failed: connection refused",
    );
    let full = relay(&["--max-connections", "1"]).await;
    let full = output(&format!("--url ws://{full} --servers 1")).await;
    assert_one_line_error(&full, 1, "--max-connections");
    let missing = output("--relay /no/such/program").await;
    assert_one_line_error(&missing, 1, "/no/such/program did not start");
}

#[tokio::test]
async fn an_invalid_flag_is_a_one_line_error() {
    for (flags, part) in [
        ("--frame 1", "1 is not in 26.."),
        ("--url ftp://a", "ws://127.0.0.1:8080"),
        ("--servers 60000 --phones 60000", "open files"),
        (
            "--url wss://127.0.0.1:1 --ca /no/such/file",
            "--ca /no/such/file",
        ),
    ] {
        assert_one_line_error(&output(flags).await, 2, part);
    }
    let help = output("--help").await;
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("--in-flight"));
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_ends_the_run_early_and_prints_the_table() {
    within(async {
        let relay = relay(&["--rate-burst", "0"]).await;
        let mut run = program(&format!("--url ws://{relay} --warmup 0s --duration 1h"));
        let mut run = run.spawn().expect("it starts");
        let mut progress = BufReader::new(run.stderr.take().expect("it is piped")).lines();
        while let Some(line) = progress.next_line().await.expect("UTF-8") {
            if line.starts_with("measuring") {
                break;
            }
        }
        let id = run.id().expect("it runs").to_string();
        let kill = Command::new("kill").args(["-INT", &id]).status().await;
        assert!(kill.expect("the kill command runs").success());
        let output = run.wait_with_output().await.expect("it ends");
        assert!(output.status.success());
        let table = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(table.contains("latency p99.9"), "{table}");
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn frames_of_every_size_get_to_the_far_end_of_a_forwarder_and_back() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/no-forwarder.sh");
    let script = script.display();
    for (frame, load) in [
        (26, "--rate 500"),
        (256, "--in-flight 3"),
        (100_000, "--in-flight 3"),
    ] {
        let crowd = format!("--servers 2 --phones 3 --warmup 100ms{SHORT} --json");
        let flags = format!("--forwarder {script} --frame {frame} {load} {crowd}");
        let summary = summary(&output(&flags).await);
        assert_forwarded(&summary);
        assert_eq!(
            (&summary["connections"], &summary["bare"]),
            (&6.into(), &true.into())
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_relay_is_started_with_the_flags_that_it_needs_and_stopped() {
    let address = relay(&["--rate-burst", "0"]).await;
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flags");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay.sh");
    let mut program = program("--idle --servers 2 --phones 9 --warmup 0s --duration 1ms --json");
    program
        .env("ADDRESS", address.to_string())
        .env("NOTE", &note)
        .arg("--relay")
        .arg(script)
        .args(["--", "--grace", "1s", "--rate-burst", "7"]);
    // The script would run for a minute, so it ends in time only if it is told to.
    let output = timeout(Duration::from_secs(10), program.output()).await;
    let summary = summary(&output.expect("it stops the relay").expect("it runs"));
    assert_eq!(summary["connections"], 20);
    assert!(figure(&summary, "relay_memory_bytes") > 0.0);
    assert_eq!(
        std::fs::read_to_string(note).expect("a note").trim(),
        "--listen 127.0.0.1:0 --metrics-listen off --max-per-address 0 --max-connections 1020 --max-phones 22 --grace 1s --rate-burst 7"
    );
}
