//! How many connections this process may have open.

use crate::error::Error;

/// Besides connections: standard streams, the runtime, the relay's output.
const OTHERS: u64 = 64;

/// Raises the limit where that is allowed.
pub(crate) fn make_room_for(connections: u32) -> Result<(), Error> {
    let wanted = u64::from(connections) + OTHERS;
    let allowed = rlimit::increase_nofile_limit(wanted);
    let allowed = allowed.map_err(|error| {
        Error::Failed(format!("the limit of open files can't be read: {error}"))
    })?;
    enough(allowed, wanted)
}

fn enough(allowed: u64, wanted: u64) -> Result<(), Error> {
    if allowed >= wanted {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "so many connections need {wanted} open files, and this process may have {allowed}: raise the hard limit \
         (ulimit -Hn), or lower --servers, --phones or --storm"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_too_low_is_named_with_what_is_needed() {
        assert!(enough(100, 100).is_ok());
        let error = enough(99, 100).expect_err("one is missing").to_string();
        assert!(
            error.contains("need 100") && error.contains("may have 99"),
            "{error}"
        );
    }
}
