//! The limit on open connections of this process.

use crate::error::Error;

/// Files other than connections: standard streams, the runtime, the relay's output.
const OTHERS: u64 = 64;

/// Raises the limit if the system allows it.
pub(crate) fn make_room_for(connections: u32) -> Result<(), Error> {
    let wanted = u64::from(connections) + OTHERS;
    let allowed = rlimit::increase_nofile_limit(wanted);
    let allowed = allowed
        .map_err(|error| Error::Failed(format!("cannot read the limit on open files: {error}")))?;
    enough(allowed, wanted)
}

fn enough(allowed: u64, wanted: u64) -> Result<(), Error> {
    if allowed >= wanted {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "these connections need {wanted} open files, and this process may have {allowed}: raise the hard limit \
         (ulimit -Hn), or lower --servers, --phones or --storm"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_reported_with_the_one_needed() {
        assert!(enough(100, 100).is_ok());
        let error = enough(99, 100).expect_err("one is missing").to_string();
        assert!(
            error.contains("need 100") && error.contains("may have 99"),
            "{error}"
        );
    }
}
