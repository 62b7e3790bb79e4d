use crate::common::{Client, Relay, UPGRADE, http, to, within};

fn reclaimed() -> (u16, String) {
    (4404, "binary reclaimed server-id".into())
}

#[tokio::test]
async fn a_binary_that_comes_back_in_grace_gets_its_server_id_and_fresh_phones() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut one, _) = relay.phone("a", &mut binary).await;
        let (mut two, _) = relay.phone("a", &mut binary).await;
        binary.close(1000).await;
        relay.until(|health| health.binaries == 0).await;

        let mut binary = relay.binary("a").await;
        assert_eq!(one.closed().await, reclaimed());
        assert_eq!(two.closed().await, reclaimed());
        // The first message to the new binary is from a new phone: nothing about those of the old binary.
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        binary.send(&to(&conn_id, "1")).await;
        assert_eq!(phone.frame().await, "1");
    })
    .await;
}

#[tokio::test]
async fn a_binary_that_vanishes_leaves_a_grace_too() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        drop(binary);
        relay.until(|health| health.binaries == 0).await;
        let _binary = relay.binary("a").await;
        assert_eq!(phone.closed().await, reclaimed());
    })
    .await;
}

#[tokio::test]
async fn a_phone_may_register_during_grace_and_is_closed_when_it_sends_or_the_binary_comes_back() {
    within(async {
        let relay = Relay::start().await;
        relay.binary("a").await.close(1000).await;
        relay.until(|health| health.binaries == 0).await;
        let mut talks = Client::phone(relay.address, "a").await;
        let mut waits = Client::phone(relay.address, "a").await;
        relay.until(|health| health.phones == 2).await;
        talks.send("\"nobody reads this\"").await;
        assert_eq!(talks.closed().await, (1000, String::new()));
        let undelivered = r#"switchboard_frames_undelivered_total{direction="to_binary"}"#;
        assert_eq!(relay.metric(undelivered).await, 1);
        let mut binary = relay.binary("a").await;
        assert_eq!(waits.closed().await, reclaimed());
        relay.phone("a", &mut binary).await;
    })
    .await;
}

#[tokio::test]
async fn a_grace_holds_the_place_of_its_binary() {
    within(async {
        let relay = Relay::with(&["--max-connections", "2"]).await;
        let _stays = relay.binary("b").await;
        relay.binary("a").await.close(1000).await;
        relay.metric_until("switchboard_binaries_in_grace", 1).await;
        assert_eq!(relay.metric("switchboard_connections").await, 2);
        let full = http(relay.address, "GET /v1/client HTTP/1.1", UPGRADE.as_bytes());
        assert_eq!(full.await.status(), "503");
    })
    .await;
}

#[tokio::test]
async fn an_expired_grace_frees_its_place() {
    within(async {
        let relay = Relay::with(&["--max-connections", "1", "--grace", "50ms"]).await;
        for server_id in ["a", "b", "c"] {
            relay.binary(server_id).await.close(1000).await;
            relay.metric_until("switchboard_connections", 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_expired_grace_closes_the_phones_with_1000() {
    within(async {
        let relay = Relay::with(&["--grace", "50ms"]).await;
        let mut stays = relay.binary("b").await;
        let (mut untouched, _) = relay.phone("b", &mut stays).await;
        // Twice, so that the sweeper sleeps without a deadline in between.
        for _ in 0..2 {
            let mut binary = relay.binary("a").await;
            let (mut one, _) = relay.phone("a", &mut binary).await;
            let (mut two, _) = relay.phone("a", &mut binary).await;
            drop(binary);
            assert_eq!(one.closed().await, (1000, String::new()));
            assert_eq!(two.closed().await, (1000, String::new()));
            let mut late = Client::phone(relay.address, "a").await;
            assert_eq!(late.closed().await, (4404, "no server with that id".into()));
        }
        untouched.send("1").await;
        assert_eq!(stays.envelope().await["frame"], 1);
    })
    .await;
}

#[tokio::test]
async fn after_an_expired_grace_a_binary_can_claim_again() {
    within(async {
        let relay = Relay::with(&["--grace", "0s"]).await;
        for _ in 0..3 {
            let mut binary = relay.binary("a").await;
            let (mut phone, _) = relay.phone("a", &mut binary).await;
            binary.close(1000).await;
            assert_eq!(phone.closed().await, (1000, String::new()));
        }
    })
    .await;
}
