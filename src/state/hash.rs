use std::any::TypeId;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{LazyLock, OnceLock};

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

/// The default hasher of server-ids: foldhash, keyed, with a random seed for each registry.
///
/// Server-ids come from the network, so the seeds are drawn from the operating system: without knowing them,
/// nobody can choose ids that collide. Of the keyed hashers that were measured
/// (`cargo bench --bench hasher`), this one is the fastest at the usual lengths of server-ids. It is not a
/// cryptographic hash: anyone who can read a registry's hashes can also find collisions. The crate never
/// exposes them.
#[derive(Clone, Debug)]
pub struct DefaultHashBuilder(SeedableRandomState);

impl Default for DefaultHashBuilder {
    fn default() -> Self {
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        let shared = SHARED.get_or_init(|| SharedSeed::from_u64(random_seed()));
        Self(SeedableRandomState::with_seed(random_seed(), shared))
    }
}

/// The standard library asks the operating system for the keys of its own hasher. A hash under such keys is
/// as random as the keys are.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl BuildHasher for DefaultHashBuilder {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// Hashes a server-id for the index, once for each call of the public API.
///
/// The index can only be enumerated if its keys are spread: papaya never finishes a resize if more keys
/// collide than one probe sequence may visit. So a caller's hasher is trusted for what it adds, but never for
/// the spread: its result is hashed once more, with the id, by our own. For the default hasher, the branch is
/// resolved at compile time.
pub(crate) fn server_id<S: BuildHasher + 'static>(hasher: &S, id: &str) -> u64 {
    let hash = hash_after(hasher, None, id);
    if TypeId::of::<S>() == TypeId::of::<DefaultHashBuilder>() {
        return hash;
    }
    hash_after(&*OWN, Some(hash), id)
}

/// Hashes a conn-id for the phone lists. Always uses our own hasher: snapshots outlive their registry, and
/// don't know the hasher that it was built with.
pub(crate) fn conn_id(id: &str) -> u64 {
    hash_after(&*OWN, None, id)
}

static OWN: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

fn hash_after<S: BuildHasher>(hasher: &S, first: Option<u64>, id: &str) -> u64 {
    let mut state = hasher.build_hasher();
    if let Some(first) = first {
        state.write_u64(first);
    }
    state.write(id.as_bytes());
    state.finish()
}
