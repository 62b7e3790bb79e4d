//! Registering counters, one at a time or one for each value of a label.

use std::fmt::Debug;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

pub(super) type Label = (&'static str, &'static str);

pub(super) fn one(series: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    series.register(name, help, counter.clone());
    counter
}

pub(super) fn family<const N: usize, C>(
    series: &mut Registry,
    name: &str,
    help: &str,
) -> Family<[Label; N], C>
where
    Family<[Label; N], C>: Default + Clone + Debug + EncodeMetric + Send + Sync + 'static,
{
    let family = Family::default();
    series.register(name, help, family.clone());
    family
}

/// Registers a counter for each value of a label.
pub(super) fn by<const N: usize, C>(
    series: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: [&'static str; N],
) -> [C; N]
where
    C: Default + Clone + Debug + EncodeMetric + TypedMetric + Send + Sync + 'static,
{
    let family: Family<[Label; 1], C> = family(series, name, help);
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}
