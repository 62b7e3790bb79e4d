use futures_util::future::join_all;

use crate::common::{Client, Relay, http, within};

/// Headers that one endpoint or the other requires.
const UPGRADE: &str =
    "X-Pyrycode-Server: a\r\nX-Pyrycode-Version: 1\r\nX-Pyrycode-Token: t\r\nUser-Agent: test\r\n";

#[tokio::test]
async fn a_missing_or_empty_header_is_named_whether_or_not_the_request_is_an_upgrade() {
    within(async {
        let relay = Relay::start().await;
        for (path, names) in [
            (
                "/v1/server",
                ["X-Pyrycode-Server", "X-Pyrycode-Version", "User-Agent"],
            ),
            (
                "/v1/client",
                ["X-Pyrycode-Server", "X-Pyrycode-Token", "User-Agent"],
            ),
        ] {
            let request = format!("GET {path} HTTP/1.1");
            for name in names {
                let without: String = UPGRADE
                    .split_inclusive("\r\n")
                    .filter(|line| !line.starts_with(name))
                    .collect();
                let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
                for headers in [
                    without.clone(),
                    format!("{without}{name}: \r\n"),
                    format!("{upgrade}{without}"),
                ] {
                    let answer = http(relay.address, &request, headers.as_bytes()).await;
                    assert_eq!(answer.status(), "400");
                    assert_eq!(
                        answer.body(),
                        format!("Header {name} is missing or empty.\n")
                    );
                }
            }
            let answer = http(relay.address, &request, UPGRADE.as_bytes()).await;
            assert!(answer.status().starts_with('4'), "not an upgrade");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_not_an_upgrade_is_told_how_to_upgrade() {
    within(async {
        let relay = Relay::start().await;
        let plain = http(relay.address, "GET /v1/client HTTP/1.1", UPGRADE.as_bytes()).await;
        assert_eq!(plain.status(), "426");
        assert!(plain.has_header("upgrade: websocket"));
        assert!(plain.has_header("connection: upgrade, close"));
        let version = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n";
        let headers = format!("{UPGRADE}{version}");
        let request = "GET /v1/server HTTP/1.1";
        let other = http(relay.address, request, headers.as_bytes()).await;
        assert_eq!(other.status(), "426");
        assert!(other.has_header("sec-websocket-version: 13"));
        for method in ["HEAD", "POST", "OPTIONS"] {
            let request = format!("{method} /v1/client HTTP/1.1");
            let answer = http(relay.address, &request, UPGRADE.as_bytes()).await;
            assert_eq!(answer.status(), "405");
            assert!(answer.has_header("allow: GET"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_binary_holds_its_server_id_once_it_has_its_response() {
    within(async {
        let relay = Relay::start().await;
        for number in 0..200 {
            let server_id = number.to_string();
            let mut binary = Client::binary(relay.address, &server_id).await;
            relay.phone(&server_id, &mut binary).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_id_that_is_too_long_or_not_utf8_is_refused() {
    within(async {
        let relay = Relay::start().await;
        let rest = b"\r\nX-Pyrycode-Token: t\r\nUser-Agent: test\r\n".as_slice();
        for (server_id, why) in [
            ([b'a'; 257].as_slice(), "is longer than 256 bytes"),
            (b"a\xffb", "is not valid UTF-8"),
        ] {
            let headers = [b"X-Pyrycode-Server: ", server_id, rest].concat();
            let answer = http(relay.address, "GET /v1/client HTTP/1.1", &headers).await;
            assert_eq!(answer.status(), "400");
            assert_eq!(answer.body(), format!("Header X-Pyrycode-Server {why}.\n"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_id_that_is_taken_is_refused_with_4409_and_nothing_else_changes() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let mut second = Client::binary(relay.address, "a").await;
        let refused = (4409, "server-id already claimed".into());
        // The incumbent reads meanwhile, and so answers the ping.
        tokio::select! {
            closed = second.closed() => assert_eq!(closed, refused),
            frame = binary.frame() => panic!("nobody sent {frame:?}"),
        }
        binary.send(&crate::common::to(&conn_id, "1")).await;
        assert_eq!(phone.frame().await, "1");
    })
    .await;
}

#[tokio::test]
async fn a_phone_without_a_binary_is_refused_with_4404() {
    within(async {
        let relay = Relay::start().await;
        let _other = relay.binary("b").await;
        let mut phone = Client::phone(relay.address, "a").await;
        assert_eq!(
            phone.closed().await,
            (4404, "no server with that id".into())
        );
    })
    .await;
}

#[tokio::test]
async fn the_seventeenth_phone_is_refused_with_4429_until_another_one_leaves() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let mut phones = Vec::new();
        for _ in 0..16 {
            phones.push(relay.phone("a", &mut binary).await.0);
        }
        let mut refused = Client::phone(relay.address, "a").await;
        let too_many = (4429, "too many phones for server-id".into());
        // The others read meanwhile, and so answer the pings.
        let others = join_all(phones.iter_mut().map(Client::frame));
        tokio::select! {
            closed = refused.closed() => assert_eq!(closed, too_many),
            frames = others => panic!("nobody sent {frames:?}"),
        }
        phones.pop().expect("there are 16").close(1000).await;
        assert_eq!(binary.envelope().await["close_code"], 1000);
        relay.phone("a", &mut binary).await;
    })
    .await;
}

#[tokio::test]
async fn conn_ids_contain_the_kind_and_the_server_id_and_are_all_different() {
    within(async {
        let relay = Relay::start().await;
        let server_id = "quo\"ted \\ ünï";
        let mut binary = relay.binary(server_id).await;
        let (mut phone, one) = relay.phone(server_id, &mut binary).await;
        let (_other, other) = relay.phone(server_id, &mut binary).await;
        assert_ne!(one, other);
        let random = one
            .strip_prefix(&format!("client-{server_id}-"))
            .expect("kind and server-id come first");
        assert_eq!(random.len(), 8);
        assert!(
            random
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        );
        binary.send(&crate::common::to(&one, "true")).await;
        assert_eq!(phone.frame().await, "true");
    })
    .await;
}

#[tokio::test]
async fn health_counts_the_connections_in_a_fixed_order() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let _other = relay.binary("b").await;
        let (_phone, _) = relay.phone("a", &mut binary).await;
        let answer = http(relay.address, "GET /healthz HTTP/1.1", b"").await;
        assert_eq!(answer.status(), "200");
        assert!(answer.has_header("content-type: application/json"));
        assert!(answer.has_header("cache-control: no-store"));
        let version = env!("CARGO_PKG_VERSION");
        let (counts, uptime) = answer
            .body()
            .rsplit_once(':')
            .expect("the uptime comes last");
        assert_eq!(
            counts,
            format!(
                r#"{{"status":"ok","version":"{version}","connected_binaries":2,"connected_phones":1,"uptime_seconds""#
            )
        );
        let seconds = uptime.strip_suffix('}').expect("and nothing after it");
        seconds.parse::<u64>().expect("a whole number");
    })
    .await;
}
