use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Client, Relay, UPGRADE, http, json_of, within};

#[tokio::test]
async fn an_address_that_asks_too_often_gets_429_before_anything_else_is_looked_at() {
    within(async {
        let flags = [
            "--rate-burst",
            "2",
            "--rate-interval",
            "1h",
            "--max-connections",
            "1",
        ];
        let relay = Relay::with(&flags).await;
        let _binary = relay.binary("a").await;
        let upgrade = UPGRADE.as_bytes();
        let full = http(relay.address, "GET /v1/client HTTP/1.1", upgrade).await;
        assert_eq!(
            full.status(),
            "503",
            "the second of two, on the other endpoint"
        );
        for path in ["/v1/client", "/v1/server"] {
            let answer = http(relay.address, &format!("GET {path} HTTP/1.1"), upgrade).await;
            assert_eq!(answer.status(), "429");
            assert!(answer.has_header("retry-after: 3600"));
            let limited = format!(
                r#"switchboard_upgrades_total{{endpoint="{}",outcome="rate_limited"}}"#,
                &path[4..]
            );
            assert_eq!(relay.metric(&limited).await, 1);
        }
        let health = http(relay.address, "GET /healthz HTTP/1.1", b"").await;
        assert_eq!(health.status(), "200");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_not_an_upgrade_does_not_count_against_the_rate_limit() {
    within(async {
        let flags = ["--rate-burst", "1", "--rate-interval", "1h"];
        let relay = Relay::with(&flags).await;
        let headers = "X-Pyrycode-Server: a\r\nX-Pyrycode-Token: t\r\nUser-Agent: test\r\n";
        for (headers, status) in [("", "400"), (headers, "426")] {
            for _ in 0..5 {
                let request = "GET /v1/client HTTP/1.1";
                let answer = http(relay.address, request, headers.as_bytes()).await;
                assert_eq!(answer.status(), status);
            }
        }
        relay.binary("a").await;
    })
    .await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_burst() {
    within(async {
        let flags = [
            "--rate-burst",
            "1",
            "--rate-interval",
            "1h",
            "--trusted-proxies",
            "127.0.0.1",
        ];
        let relay = Relay::with(&flags).await;
        for (client, status) in [
            ("198.51.100.1", "400"),
            ("198.51.100.2", "400"),
            ("198.51.100.1", "429"),
        ] {
            let header = format!("{UPGRADE}X-Forwarded-For: 203.0.113.9, {client}\r\n");
            let request = "GET /v1/client HTTP/1.1";
            let answer = http(relay.address, request, header.as_bytes()).await;
            assert_eq!(answer.status(), status, "{client}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_above_the_cap_gets_503_until_another_one_ends() {
    within(async {
        let relay = Relay::with(&["--max-connections", "2"]).await;
        let mut binary = relay.binary("a").await;
        let (phone, _) = relay.phone("a", &mut binary).await;
        let request = "GET /v1/client HTTP/1.1";
        let full = http(relay.address, request, UPGRADE.as_bytes()).await;
        assert_eq!(full.status(), "503", "before the headers are checked");
        phone.close(1000).await;
        assert_eq!(binary.envelope().await["close_code"], 1000);
        relay.metric_until("switchboard_connections", 1).await;
        relay.phone("a", &mut binary).await;
        let refused = r#"switchboard_upgrades_total{endpoint="client",outcome="over_capacity"}"#;
        assert_eq!(relay.metric(refused).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_address_has_its_connections_and_the_next_one_gets_429() {
    within(async {
        let flags = ["--max-per-address", "3", "--trusted-proxies", "127.0.0.1"];
        let relay = Relay::with(&flags).await;
        let request = "GET /v1/client HTTP/1.1";
        // Without a client's address, that of the proxy counts.
        let mut binary = relay.binary("a").await;
        let (phone, _) = relay.phone("a", &mut binary).await;
        let (_other, _) = relay.phone("a", &mut binary).await;
        let full = http(relay.address, request, UPGRADE.as_bytes()).await;
        assert_eq!(full.status(), "429", "before the headers are checked");
        assert!(!full.has_header("retry-after: 3600"));
        let elsewhere = format!("{UPGRADE}X-Forwarded-For: 198.51.100.1\r\n");
        let other = http(relay.address, request, elsewhere.as_bytes()).await;
        assert_eq!(other.status(), "400", "another client of the proxy");
        let refused =
            r#"switchboard_upgrades_total{endpoint="client",outcome="address_over_capacity"}"#;
        assert_eq!(relay.metric(refused).await, 1);
        phone.close(1000).await;
        relay.metric_until("switchboard_connections", 2).await;
        Client::phone(relay.address, "a").await;
    })
    .await;
}

#[tokio::test]
async fn an_address_that_sends_no_request_has_its_connections_and_the_next_one_gets_429() {
    within(async {
        let flags = ["--max-per-address", "2", "--header-timeout", "1h"];
        let relay = Relay::with(&flags).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(TcpStream::connect(relay.address).await.expect("it listens"));
        }
        // Those accepted first need not be served first.
        let answers = silent.iter_mut().map(|socket| {
            async {
                let mut answer = String::new();
                let read = socket.read_to_string(&mut answer).await;
                read.expect("it closes the connection");
                answer
            }
            .boxed_local()
        });
        let (answer, _, waiting) = select_all(answers).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        drop(waiting);
        let refused = r#"switchboard_requests_unheard_total{reason="too_many_from_address"}"#;
        assert_eq!(relay.metric(refused).await, 1);
        drop(silent);
        loop {
            let socket = TcpStream::connect(relay.address).await;
            let mut socket = socket.expect("it listens");
            let request = b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n";
            let mut answer = Vec::new();
            if socket.write_all(request).await.is_ok()
                && socket.read_to_end(&mut answer).await.is_ok()
                && answer.starts_with(b"HTTP/1.1 200 ")
            {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn headers_of_16_kib_are_read_and_larger_ones_get_431() {
    within(async {
        let relay = Relay::start().await;
        let request = "GET /healthz HTTP/1.1";
        for (bytes, status) in [(16_000, "200"), (16 * 1024, "431")] {
            let header = format!("X-Large: {}\r\n", "x".repeat(bytes));
            let answer = http(relay.address, request, header.as_bytes()).await;
            assert_eq!(answer.status(), status, "{bytes}");
        }
        let refused = r#"switchboard_requests_unheard_total{reason="headers_too_large"}"#;
        assert_eq!(relay.metric(refused).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_slow_with_headers_is_disconnected() {
    within(async {
        let relay = Relay::with(&["--header-timeout", "100ms"]).await;
        let answered = "GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n";
        let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for sent in ["", "GET /v1/client HTTP/1.1\r\nX-Slow: ", answered, http2] {
            let mut socket = TcpStream::connect(relay.address).await.expect("it listens");
            socket.write_all(sent.as_bytes()).await.expect("it reads");
            // Until the relay closes the connection.
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer).await;
        }
        relay.binary("a").await;
    })
    .await;
}

#[tokio::test]
async fn a_message_that_never_ends_is_1008_though_its_sender_is_alive() {
    within(async {
        let flags = ["--message-timeout", "300ms", "--heartbeat-interval", "50ms"];
        let relay = Relay::with(&flags).await;
        let mut binary = relay.binary("a").await;
        let (phone, conn_id) = relay.phone("a", &mut binary).await;
        let closed = phone.trickle().await;
        assert_eq!(closed, (1008, "message too slow".into()));
        assert_eq!(binary.envelope().await["conn_id"], conn_id);
        let rejected = r#"switchboard_messages_rejected_total{reason="too_slow"}"#;
        assert_eq!(relay.metric(rejected).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_waits_for_a_slow_binary_is_not_blamed_for_its_message() {
    within(async {
        let flags = ["--message-timeout", "300ms", "--outbox", "65536"];
        let relay = Relay::with(&flags).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        let frames = 60;
        let sending = tokio::spawn(async move {
            for _ in 0..frames {
                phone.send(&json_of(200_000)).await;
            }
            phone
        });
        for _ in 0..frames {
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            binary.envelope().await;
        }
        let mut phone = sending.await.expect("all was sent");
        phone.send("\"still here\"").await;
        assert_eq!(binary.envelope().await["frame"], "still here");
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_has_left_holds_no_place_while_its_binary_does_not_read() {
    within(async {
        let relay = Relay::with(&["--max-connections", "3"]).await;
        let mut binary = relay.binary("a").await;
        for number in 0..30 {
            let mut phone = Client::phone(relay.address, "a").await;
            // Fills the system's buffers towards the binary, and the outbox.
            phone
                .send(&format!("[{number},{}]", json_of(250_000)))
                .await;
            phone.close(1000).await;
            relay.metric_until("switchboard_connections", 1).await;
        }
        let mut there = std::collections::HashSet::new();
        let mut frames = 0;
        while frames < 30 || !there.is_empty() {
            let envelope = binary.envelope().await;
            let conn_id = envelope["conn_id"].to_string();
            if envelope["frame"].is_array() {
                frames += 1;
                assert!(there.insert(conn_id));
            } else {
                assert_eq!(envelope["close_code"], 1000);
                assert!(there.remove(&conn_id), "a notice before its frame");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_leaves_waits_while_others_have_left_too_much_behind() {
    within(async {
        // Departed phones may leave 16 KiB behind, or one frame.
        let flags = [
            "--outbox",
            "65536",
            "--max-phones",
            "2",
            "--probe-timeout",
            "100ms",
        ];
        let relay = Relay::with(&flags).await;
        let mut binary = relay.binary("a").await;
        let mut frames = 0;
        loop {
            let mut phone = Client::phone(relay.address, "a").await;
            phone
                .send(&format!("[{frames},{}]", json_of(250_000)))
                .await;
            phone.start_closing(1000).await;
            match phone.closed().await {
                (1000, _) => frames += 1,
                closed => {
                    assert_eq!(closed, (4429, "too many phones for server-id".into()));
                    break;
                }
            }
            assert!(frames < 100, "25 MB are left behind");
        }
        let mut notices = 0;
        while notices < frames {
            let envelope = binary.envelope().await;
            notices += u64::from(envelope["close_code"] == 1000);
        }
        relay.metric_until("switchboard_connections", 1).await;
        relay.phone("a", &mut binary).await;
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_never_stops_after_a_message_that_is_too_large_reads_1009() {
    within(async {
        let relay = Relay::with(&["--max-frame", "1024"]).await;
        let mut binary = relay.binary("a").await;
        let (phone, conn_id) = relay.phone("a", &mut binary).await;
        let closed = phone.upload(32 * 1024 * 1024).await;
        assert_eq!(closed, (1009, "message too big".into()));
        let notice = binary.envelope().await;
        assert_eq!(notice["conn_id"], conn_id);
        assert_eq!(notice["close_code"], 1001);
        let rejected = r#"switchboard_messages_rejected_total{reason="too_large"}"#;
        assert_eq!(relay.metric(rejected).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_push_wake_is_counted_and_dropped() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        binary
            .send(r#"{"push_wake":{"platform":"fcm","token":"secret"}}"#)
            .await;
        let dropped = r#"switchboard_envelopes_dropped_total{reason="push_wake"}"#;
        relay.metric_until(dropped, 1).await;
        relay.phone("a", &mut binary).await;
    })
    .await;
}

#[tokio::test]
async fn forwarded_frames_are_counted_by_direction() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        for _ in 0..10 {
            binary.send(&crate::common::to(&conn_id, "12345")).await;
            assert_eq!(phone.frame().await, "12345");
        }
        for (series, count) in [
            (
                r#"switchboard_frames_forwarded_total{direction="to_phone"}"#,
                10,
            ),
            (
                r#"switchboard_bytes_forwarded_total{direction="to_phone"}"#,
                50,
            ),
            (
                r#"switchboard_frames_forwarded_total{direction="to_binary"}"#,
                1,
            ),
        ] {
            relay.metric_until(series, count).await;
        }
        let _ = Client::phone(relay.address, "nowhere").await.closed().await;
        let refused = r#"switchboard_refusals_total{kind="no_server"}"#;
        assert_eq!(relay.metric(refused).await, 1);
    })
    .await;
}
