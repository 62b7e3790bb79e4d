use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::common::{Client, Relay, http, to, within};

/// All series but `build_info`, without the prefix.
const SERIES: [&str; 91] = [
    "accept_errors_total",
    "access_requests_total{outcome=\"admitted\"}",
    "access_requests_total{outcome=\"failed\"}",
    "access_requests_total{outcome=\"refused\"}",
    "access_requests_total{outcome=\"remembered\"}",
    "admin_requests_total{outcome=\"accepted\"}",
    "admin_requests_total{outcome=\"bad_request\"}",
    "admin_requests_total{outcome=\"failed\"}",
    "admin_requests_total{outcome=\"not_found\"}",
    "admin_requests_total{outcome=\"unauthorized\"}",
    "binaries_in_grace",
    "bytes_forwarded_total{direction=\"to_binary\"}",
    "bytes_forwarded_total{direction=\"to_phone\"}",
    "connected_binaries",
    "connected_phones",
    "connections",
    "disconnects_total{by=\"network\"}",
    "disconnects_total{by=\"peer\"}",
    "disconnects_total{by=\"relay\"}",
    "envelopes_dropped_total{reason=\"empty\"}",
    "envelopes_dropped_total{reason=\"malformed\"}",
    "envelopes_dropped_total{reason=\"no_conn_id\"}",
    "envelopes_dropped_total{reason=\"phone_leaving\"}",
    "envelopes_dropped_total{reason=\"push_wake\"}",
    "envelopes_dropped_total{reason=\"unknown_phone\"}",
    "evictions_total{kind=\"phone\"}",
    "evictions_total{kind=\"server_id\"}",
    "frames_forwarded_total{direction=\"to_binary\"}",
    "frames_forwarded_total{direction=\"to_phone\"}",
    "frames_undelivered_total{direction=\"to_binary\"}",
    "frames_undelivered_total{direction=\"to_phone\"}",
    "grace_expiries_total",
    "heartbeat_timeouts_total{endpoint=\"client\"}",
    "heartbeat_timeouts_total{endpoint=\"server\"}",
    "log_lines_dropped_total",
    "max_connections",
    "messages_rejected_total{reason=\"not_json\"}",
    "messages_rejected_total{reason=\"not_utf8\"}",
    "messages_rejected_total{reason=\"protocol_error\"}",
    "messages_rejected_total{reason=\"too_large\"}",
    "messages_rejected_total{reason=\"too_slow\"}",
    "outbox_overflows_total",
    "page_refusals_total{reason=\"not_read\"}",
    "page_refusals_total{reason=\"too_many\"}",
    "page_refusals_total{reason=\"wrong_host\"}",
    "phone_waits_total{outcome=\"joined\"}",
    "phone_waits_total{outcome=\"left\"}",
    "phone_waits_total{outcome=\"timed_out\"}",
    "phones_waiting",
    "probes_total{outcome=\"answered\"}",
    "probes_total{outcome=\"silent\"}",
    "push_wakes_total{outcome=\"failed\"}",
    "push_wakes_total{outcome=\"rate_limited\"}",
    "push_wakes_total{outcome=\"sent\"}",
    "push_wakes_total{outcome=\"too_many\"}",
    "reclaims_total",
    "refusals_total{kind=\"access_expired\"}",
    "refusals_total{kind=\"conn_id_taken\"}",
    "refusals_total{kind=\"no_server\"}",
    "refusals_total{kind=\"nothing_said\"}",
    "refusals_total{kind=\"server_id_claimed\"}",
    "refusals_total{kind=\"too_many_claims\"}",
    "refusals_total{kind=\"too_many_phones\"}",
    "refusals_total{kind=\"wrong_claim_secret\"}",
    "requests_unheard_total{reason=\"headers_too_large\"}",
    "requests_unheard_total{reason=\"proxy_header\"}",
    "requests_unheard_total{reason=\"too_many\"}",
    "requests_unheard_total{reason=\"too_many_from_address\"}",
    "takeovers_total",
    "upgrades_total{endpoint=\"client\",outcome=\"accepted\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"access_unknown\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"address_over_capacity\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"bad_request\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"draining\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"failed\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"forbidden\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"over_capacity\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"rate_limited\"}",
    "upgrades_total{endpoint=\"client\",outcome=\"unauthorized\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"accepted\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"access_unknown\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"address_over_capacity\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"bad_request\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"draining\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"failed\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"forbidden\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"over_capacity\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"rate_limited\"}",
    "upgrades_total{endpoint=\"server\",outcome=\"unauthorized\"}",
    "write_failures_total{endpoint=\"client\"}",
    "write_failures_total{endpoint=\"server\"}",
];

const GET_METRICS: &str = "GET /metrics HTTP/1.0";

type Series = BTreeMap<String, u64>;

/// All series of the relay but `build_info`.
async fn series(relay: &Relay) -> Series {
    let answer = http(relay.metrics, GET_METRICS, b"").await;
    let lines = answer.body().lines();
    lines
        .filter_map(|line| line.strip_prefix("switchboard_"))
        .filter(|line| !line.starts_with("build_info"))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a count"))
        })
        .collect()
}

/// Waits until the counts that are not zero are as wanted.
async fn until(relay: &Relay, wanted: &[(&str, u64)]) {
    let wanted: Series = wanted.iter().map(|&(name, n)| (name.into(), n)).collect();
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let mut series = series(relay).await;
        series.retain(|name, value| *value != 0 && name != "max_connections");
        if series == wanted {
            return;
        }
        assert!(Instant::now() < limit, "{series:?} instead of {wanted:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The stream from `/events`.
struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    async fn of(relay: &Relay) -> Self {
        let mut socket = TcpStream::connect(relay.metrics).await.expect("it listens");
        // In HTTP/1.0 the body has no chunks.
        let request = b"GET /events HTTP/1.0\r\n\r\n";
        socket.write_all(request).await.expect("it reads");
        let mut events = Self(BufReader::new(socket).lines());
        let head = events.block().await.expect("a head").to_lowercase();
        assert!(head.starts_with("http/1.0 200 ok\n"), "{head}");
        assert!(
            head.contains("\ncontent-type: text/event-stream\n"),
            "{head}"
        );
        assert!(head.contains("\ncache-control: no-cache\n"), "{head}");
        events
    }

    /// The lines up to an empty one.
    async fn block(&mut self) -> Option<String> {
        let mut block = String::new();
        loop {
            match self.0.next_line().await.expect("UTF-8") {
                None => {
                    assert_eq!(block, "", "the stream ends in mid-event");
                    return None;
                }
                Some(line) if line.is_empty() => return Some(block),
                Some(line) => block = block + &line + "\n",
            }
        }
    }

    /// The name of the next event, and its data.
    async fn next(&mut self) -> Option<(String, Value)> {
        let block = self.block().await?;
        let field = |name: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let data = serde_json::from_str(field("data").expect("data")).expect("JSON");
        Some((field("event").expect("a name").to_owned(), data))
    }

    /// The samples kept so far, after what the relay says about itself.
    async fn kept(&mut self) -> Vec<Value> {
        let (name, instance) = self.next().await.expect("an event");
        assert_eq!(name, "instance");
        let instance = instance.as_str().expect("a string");
        let (host, port) = instance.split_once(':').expect("a port");
        assert!(
            !host.is_empty() && port.parse::<u16>().is_ok(),
            "{instance}"
        );
        let admin = self.next().await.expect("an event");
        assert_eq!(admin, ("admin".to_owned(), Value::Bool(false)));
        match self.next().await {
            Some((name, Value::Array(samples))) if name == "kept" => samples,
            other => panic!("the samples kept were expected, and {other:?} came"),
        }
    }

    async fn sample(&mut self) -> Value {
        match self.next().await {
            Some((name, sample)) if name == "sample" => sample,
            other => panic!("expected a sample, got {other:?}"),
        }
    }
}

fn time(sample: &Value) -> u64 {
    sample["time"].as_u64().expect("milliseconds")
}

#[tokio::test]
async fn all_series_are_there_from_the_start() {
    within(async {
        let relay = Relay::start().await;
        let answer = http(relay.metrics, GET_METRICS, b"").await;
        assert_eq!(answer.status(), "200");
        let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(answer.has_header(&format!("Content-Type: {format}")));
        assert!(answer.body().ends_with("\n# EOF\n"));
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("\nswitchboard_build_info{{version=\"{version}\"}} 1\n");
        assert!(answer.body().contains(&build));
        let at_first = series(&relay).await;
        let names: Vec<&str> = at_first.keys().map(String::as_str).collect();
        assert_eq!(names, SERIES);
        until(&relay, &[]).await;
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_series_of_the_process_have_their_conventional_names() {
    within(async {
        let relay = Relay::start().await;
        let answer = http(relay.metrics, GET_METRICS, b"").await;
        for (name, kind) in [
            ("process_cpu_seconds", "counter"),
            ("process_resident_memory_bytes", "gauge"),
            ("process_virtual_memory_bytes", "gauge"),
            ("process_open_fds", "gauge"),
            ("process_max_fds", "gauge"),
            ("process_start_time_seconds", "gauge"),
            ("process_threads", "gauge"),
        ] {
            let kind = format!("# TYPE {name} {kind}\n");
            assert!(answer.body().contains(&kind), "{name}");
        }
        let started = relay.metric("process_start_time_seconds").await;
        assert!(started > 1_600_000_000, "{started}");
        assert!(relay.metric("process_resident_memory_bytes").await > 1 << 20);
        assert!(relay.metric("process_open_fds").await > 2);
        assert!(answer.body().contains("\nprocess_cpu_seconds_total "));
        assert!(!answer.body().contains("certificate_expiry"));
    })
    .await;
}

#[tokio::test]
async fn the_counters_match_what_the_clients_did() {
    within(async {
        let relay = Relay::with(&["--max-phones", "2", "--grace", "1h"]).await;
        let mut binary = relay.binary("a").await;
        // Each has said "hello".
        let (mut one, one_id) = relay.phone("a", &mut binary).await;
        let (mut two, two_id) = relay.phone("a", &mut binary).await;
        let mut third = Client::phone(relay.address, "a").await;
        tokio::select! {
            _ = third.closed() => {}
            frame = one.frame() => panic!("nobody sent {frame:?}"),
            frame = two.frame() => panic!("nobody sent {frame:?}"),
        }
        Client::phone(relay.address, "b").await.closed().await;
        Client::phone(relay.address, "b").await.closed().await;
        let mut second = Client::binary(relay.address, "a").await;
        tokio::select! {
            _ = second.closed() => {}
            frame = binary.frame() => panic!("nobody sent {frame:?}"),
        }
        let no_header = "GET /v1/server HTTP/1.1";
        assert_eq!(http(relay.address, no_header, b"").await.status(), "400");
        for frame in ["1", "22", "333"] {
            binary.send(&to(&one_id, frame)).await;
            assert_eq!(one.frame().await, frame);
        }
        let envelopes = format!(r#"{{"conn_id":"{one_id}","frame":"hello"}}"#).len()
            + format!(r#"{{"conn_id":"{two_id}","frame":"hello"}}"#).len();
        for dropped in [
            "no envelope",
            r#"{"frame":1}"#,
            r#"{"conn_id":"nobody","frame":1}"#,
            r#"{"conn_id":"nobody","frame":1}"#,
        ] {
            binary.send(dropped).await;
        }
        let so_far = [
            ("connected_binaries", 1),
            ("connected_phones", 2),
            ("connections", 3),
            (
                "bytes_forwarded_total{direction=\"to_binary\"}",
                envelopes as u64,
            ),
            ("bytes_forwarded_total{direction=\"to_phone\"}", 6),
            ("frames_forwarded_total{direction=\"to_binary\"}", 2),
            ("frames_forwarded_total{direction=\"to_phone\"}", 3),
            ("envelopes_dropped_total{reason=\"malformed\"}", 1),
            ("envelopes_dropped_total{reason=\"no_conn_id\"}", 1),
            ("envelopes_dropped_total{reason=\"unknown_phone\"}", 2),
            ("disconnects_total{by=\"relay\"}", 4),
            ("probes_total{outcome=\"answered\"}", 3),
            ("refusals_total{kind=\"no_server\"}", 2),
            ("refusals_total{kind=\"server_id_claimed\"}", 1),
            ("refusals_total{kind=\"too_many_phones\"}", 1),
            (
                "upgrades_total{endpoint=\"client\",outcome=\"accepted\"}",
                5,
            ),
            (
                "upgrades_total{endpoint=\"server\",outcome=\"accepted\"}",
                2,
            ),
            (
                "upgrades_total{endpoint=\"server\",outcome=\"bad_request\"}",
                1,
            ),
        ];
        until(&relay, &so_far).await;

        // The page gets the same.
        let mut events = Events::of(&relay).await;
        events.kept().await;
        let mut sample = events.sample().await;
        assert!(time(&sample) > 1_600_000_000_000);
        let fields = sample.as_object_mut().expect("an object");
        fields.retain(|name, value| name != "time" && *value != 0);
        let wanted = serde_json::json!({
            "binaries": 1, "phones": 2, "connections": 3, "max_connections": 10_000,
            "frames_to_binaries": 2, "frames_to_phones": 3,
            "bytes_to_binaries": envelopes, "bytes_to_phones": 6,
            "upgrades": 7, "bad_requests": 1,
            "server_id_claimed": 1, "no_server": 2, "too_many_phones": 1,
            "envelopes_dropped": 4,
        });
        assert_eq!(sample, wanted);
        drop((one, two));
    })
    .await;
}

#[tokio::test]
async fn a_grace_is_counted_while_it_lasts_and_by_how_it_ends() {
    within(async {
        let accepted = "upgrades_total{endpoint=\"server\",outcome=\"accepted\"}";
        let relay = Relay::with(&["--grace", "1h"]).await;
        relay.binary("a").await.close(1000).await;
        let disconnected = "disconnects_total{by=\"peer\"}";
        let gone = [
            ("binaries_in_grace", 1),
            ("connections", 1),
            (accepted, 1),
            (disconnected, 1),
        ];
        until(&relay, &gone).await;
        let _binary = relay.binary("a").await;
        let back = [
            ("connected_binaries", 1),
            ("connections", 1),
            ("reclaims_total", 1),
            (accepted, 2),
            (disconnected, 1),
        ];
        until(&relay, &back).await;

        let relay = Relay::with(&["--grace", "50ms"]).await;
        relay.binary("a").await.close(1000).await;
        let expired = [
            ("grace_expiries_total", 1),
            (accepted, 1),
            (disconnected, 1),
        ];
        until(&relay, &expired).await;
    })
    .await;
}

#[tokio::test]
async fn events_begin_with_what_was_kept_and_end_with_the_relay() {
    within(async {
        let relay = Relay::start().await;
        let mut early = Events::of(&relay).await;
        let mut seen: Vec<Value> = early.kept().await;
        let before_binary = seen.len() + 2;
        while seen.len() < before_binary {
            seen.push(early.sample().await);
        }
        let _binary = relay.binary("a").await;
        seen.push(early.sample().await);
        let counts: Vec<&Value> = seen.iter().map(|sample| &sample["binaries"]).collect();
        assert_eq!(*counts[before_binary], 1);
        assert!(counts[..before_binary].iter().all(|count| **count == 0));
        for pair in seen.windows(2) {
            let apart = time(&pair[1]) - time(&pair[0]);
            assert!(
                (500..5000).contains(&apart),
                "{apart} ms between two samples"
            );
        }

        // A later subscriber gets the same samples, each of them once.
        let mut late = Events::of(&relay).await;
        let mut kept = late.kept().await;
        assert_eq!(kept[..seen.len()], seen);
        kept.push(late.sample().await);
        assert!(kept.is_sorted_by_key(time));
        kept.dedup_by_key(|sample| time(sample));
        for sample in &kept[seen.len()..] {
            assert_eq!(*sample, early.sample().await);
        }

        let stopped = Instant::now();
        let task = relay.stop();
        while early.next().await.is_some() {}
        while late.next().await.is_some() {}
        task.await.expect("no panic").expect("a clean end");
        assert!(stopped.elapsed() < Duration::from_secs(5));
    })
    .await;
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere_and_is_served_to_operators_only() {
    within(async {
        let relay = Relay::start().await;
        let page = http(relay.metrics, "GET / HTTP/1.0", b"").await;
        assert_eq!(page.status(), "200");
        for header in [
            "Content-Type: text/html; charset=utf-8",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Content-Security-Policy: default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; \
             style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ] {
            assert!(page.has_header(header), "{header}");
        }
        assert_eq!(page.body(), include_str!("../../src/operate/page.html"));
        let health = http(relay.metrics, "GET /healthz HTTP/1.0", b"").await;
        assert_eq!(health.status(), "200");
        for path in ["/", "/events", "/metrics"] {
            let answer = http(relay.address, &format!("GET {path} HTTP/1.0"), b"").await;
            assert_eq!(answer.status(), "404", "{path}");
        }
    })
    .await;
}
