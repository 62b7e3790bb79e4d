//! How many connections there may be, in all and from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for connections.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    most: usize,
    /// `None`: an address may take all places.
    addresses: Option<Arc<Addresses>>,
}

/// How many places each address has taken. Addresses without any are not listed.
#[derive(Debug)]
struct Addresses {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _in_all: OwnedSemaphorePermit,
    of_address: Option<OfAddress>,
}

#[derive(Debug)]
struct OfAddress {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("there are too many connections")]
    All,
    #[error("there are too many connections from this address")]
    Address,
}

impl Places {
    /// `most` places in all, and `per_address` for each address; 0 for no limit.
    pub(crate) fn new(most: usize, per_address: u32) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        let addresses = (per_address > 0).then(|| {
            Arc::new(Addresses {
                most: per_address as usize,
                taken: Mutex::default(),
            })
        });
        Self {
            all: Arc::new(Semaphore::new(most)),
            most,
            addresses,
        }
    }

    /// Takes a place. Without an address, only the limit for all applies.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub(crate) fn take(&self, address: Option<IpAddr>) -> Result<Place, Full> {
        let in_all = Arc::clone(&self.all).try_acquire_owned();
        let in_all = in_all.map_err(|_| Full::All)?;
        let of_address = match (&self.addresses, address) {
            (Some(addresses), Some(address)) => Some(Addresses::take(addresses, address)?),
            _ => None,
        };
        Ok(Place {
            _in_all: in_all,
            of_address,
        })
    }

    /// Counts a place for an address, which was not known when the place was taken.
    ///
    /// # Errors
    ///
    /// [`Full::Address`].
    pub(crate) fn count(&self, place: &mut Place, address: IpAddr) -> Result<(), Full> {
        if let Some(addresses) = &self.addresses {
            place.of_address = Some(Addresses::take(addresses, address)?);
        }
        Ok(())
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.most - self.all.available_permits()
    }
}

impl Addresses {
    fn take(this: &Arc<Self>, address: IpAddr) -> Result<OfAddress, Full> {
        let address = network(address);
        let mut taken = this.taken();
        let count = taken.entry(address).or_default();
        // At least one: an entry of 0 would stay.
        if *count >= this.most {
            return Err(Full::Address);
        }
        *count += 1;
        Ok(OfAddress {
            addresses: Arc::clone(this),
            address,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut taken = self.addresses.taken();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
                // The map of a storm is not kept.
                if taken.len() < taken.capacity() / 8 {
                    taken.shrink_to_fit();
                }
            }
        }
    }
}

/// The address that limits apply to. An IPv6 client can choose any address of its /64 network, so the network counts
/// as one address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
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
    fn an_address_has_its_places_and_gets_them_back() {
        let places = Places::new(10, 2);
        let one = places.take(Some(address("10.0.0.1"))).expect("the first");
        let _two = places
            .take(Some(address("::ffff:10.0.0.1")))
            .expect("the second");
        let refused = places.take(Some(address("10.0.0.1")));
        assert_eq!(refused.expect_err("it has two"), Full::Address);
        assert_eq!(places.taken(), 2);
        let _other = places
            .take(Some(address("10.0.0.2")))
            .expect("another address");
        drop(one);
        let _again = places
            .take(Some(address("10.0.0.1")))
            .expect("one was free");
    }

    #[test]
    fn a_place_may_be_counted_for_an_address_later() {
        let places = Places::new(10, 1);
        let client = address("10.0.0.1");
        let mut one = places.take(None).expect("the first");
        places.count(&mut one, client).expect("it has none");
        let mut two = places.take(None).expect("the second");
        let refused = places.count(&mut two, client);
        assert_eq!(refused.expect_err("it has one"), Full::Address);
        drop(one);
        places.count(&mut two, client).expect("one was free");
        assert_eq!(places.taken(), 1);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let places = Places::new(10, 1);
        let _one = places
            .take(Some(address("2001:db8::1")))
            .expect("the first");
        let refused = places.take(Some(address("2001:db8::ffff:2")));
        assert_eq!(refused.expect_err("the same network"), Full::Address);
        let other = places.take(Some(address("2001:db8:0:1::1")));
        other.expect("another network");
    }

    #[test]
    fn no_place_is_left_above_the_limit_for_all() {
        let places = Places::new(1, 0);
        let place = places.take(Some(address("10.0.0.1"))).expect("the first");
        let refused = places.take(None).expect_err("it is taken");
        assert_eq!(refused, Full::All);
        drop(place);
        assert_eq!(places.taken(), 0);
        places.take(None).expect("it is free");
    }

    #[test]
    fn an_address_without_connections_is_not_listed() {
        let places = Places::new(10, 1);
        drop(places.take(Some(address("10.0.0.1"))).expect("the first"));
        let addresses = places.addresses.expect("there is a limit");
        assert!(addresses.taken().is_empty());
    }
}
