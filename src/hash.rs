use std::any::TypeId;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{LazyLock, OnceLock};

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

/// The default hasher of server-ids: foldhash, keyed, with a random seed for each registry.
///
/// Server-ids come from the network, so the seeds are drawn from the operating system: without them
/// nobody can choose ids that collide. Of the keyed hashers that were measured
/// (`cargo bench --bench hasher`) this one is the fastest at the lengths that server-ids have. It is
/// not a cryptographic hash: whoever can read a registry's hashes can also find collisions. They are
/// never shown to anybody.
#[derive(Clone, Debug)]
pub struct DefaultHashBuilder(SeedableRandomState);

impl Default for DefaultHashBuilder {
    fn default() -> Self {
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        let shared = SHARED.get_or_init(|| SharedSeed::from_u64(random_seed()));
        Self(SeedableRandomState::with_seed(random_seed(), shared))
    }
}

/// The standard library asks the operating system for the keys of its own hasher; a hash under such
/// keys is as random as they are.
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
/// The index can only be enumerated while its keys are spread: papaya never finishes a resize when
/// more keys collide than one probe sequence may visit. A hasher from outside is therefore trusted for
/// what it adds, but never for the spread: its result is hashed once more, with the id, by our own.
/// For the default hasher the branch is settled at compile time.
pub(crate) fn server_id<S: BuildHasher + 'static>(hasher: &S, id: &str) -> u64 {
    let hash = hash_after(hasher, None, id);
    if TypeId::of::<S>() == TypeId::of::<DefaultHashBuilder>() {
        return hash;
    }
    hash_after(&*OWN, Some(hash), id)
}

/// Hashes a conn-id for the phone lists. Always our own hasher: snapshots outlive their registry, and
/// know nothing of the one that it was built with.
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
