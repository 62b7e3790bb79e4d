//! The rate limit of upgrades for each address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::transport::places::network;

/// A token bucket for each address. An IPv6 client can choose any address of its /64 network, so the network counts as
/// one address.
pub(crate) struct RateLimit {
    /// `None`: no limit.
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
}

impl RateLimit {
    /// Allows `burst` upgrades at once, and one more after each `interval`. A burst of 0 means no limit.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        let quota = NonZeroU32::new(burst)
            .and_then(|burst| Some(Quota::with_period(interval)?.allow_burst(burst)));
        Self {
            limiter: quota.map(DefaultKeyedRateLimiter::keyed),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one token of the address.
    ///
    /// # Errors
    ///
    /// If no token is left: the time until the next one.
    pub(crate) fn take(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        let refused = limiter.check_key(&network(address)).err();
        match refused {
            None => Ok(()),
            Some(until) => Err(until.wait_time_from(self.clock.now())),
        }
    }

    /// Forgets the addresses whose full burst is available again.
    pub(crate) fn forget(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_burst_and_others_have_theirs() {
        let rate = RateLimit::new(3, Duration::from_secs(60));
        for _ in 0..3 {
            rate.take(address("10.0.0.1")).expect("the burst");
        }
        let wait = rate.take(address("10.0.0.1")).expect_err("it is used up");
        assert!(
            wait > Duration::from_secs(50) && wait <= Duration::from_secs(60),
            "{wait:?}"
        );
        rate.take(address("10.0.0.2")).expect("another address");
        rate.take(address("::ffff:10.0.0.1"))
            .expect_err("the same address");
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let rate = RateLimit::new(1, Duration::from_secs(60));
        rate.take(address("2001:db8::1")).expect("the first");
        rate.take(address("2001:db8::ffff:2"))
            .expect_err("the same network");
        rate.take(address("2001:db8:0:1::1"))
            .expect("another network");
    }

    #[test]
    fn without_a_burst_there_is_no_limit() {
        let rate = RateLimit::new(0, Duration::from_secs(60));
        for _ in 0..1000 {
            rate.take(address("10.0.0.1")).expect("no limit");
        }
    }

    #[test]
    fn an_address_with_its_full_burst_is_forgotten() {
        let rate = RateLimit::new(1, Duration::from_millis(1));
        rate.take(address("10.0.0.1")).expect("the first");
        std::thread::sleep(Duration::from_millis(20));
        rate.forget();
        let limiter = rate.limiter.as_ref().expect("there is a limit");
        assert!(limiter.is_empty());
    }
}
