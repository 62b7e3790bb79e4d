//! How often an address may ask for an upgrade.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// A bucket of tokens for each address. An IPv6 client has a whole network of 64 bits to choose addresses from, so that
/// is what counts as one.
pub(crate) struct RateLimit {
    /// `None`: no limit.
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
}

impl RateLimit {
    /// `burst` upgrades at once, and one more after each `interval`; a burst of 0 means no limit.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        let quota = NonZeroU32::new(burst)
            .and_then(|burst| Some(Quota::with_period(interval)?.allow_burst(burst)));
        Self {
            limiter: quota.map(DefaultKeyedRateLimiter::keyed),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one upgrade from what is left to the address.
    ///
    /// # Errors
    ///
    /// After which time there is one again.
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

    /// Forgets the addresses that have their whole burst again.
    pub(crate) fn forget(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
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
    fn who_has_the_whole_burst_again_is_forgotten() {
        let rate = RateLimit::new(1, Duration::from_millis(1));
        rate.take(address("10.0.0.1")).expect("the first");
        std::thread::sleep(Duration::from_millis(20));
        rate.forget();
        let limiter = rate.limiter.as_ref().expect("there is a limit");
        assert!(limiter.is_empty());
    }
}
