//! Figures in words.

/// `12000` as `12,000`.
pub(crate) fn thousands(number: &str) -> String {
    let (whole, fraction) = number
        .find('.')
        .map_or((number, ""), |dot| number.split_at(dot));
    let mut words = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            words.push(',');
        }
        words.push(digit);
    }
    words + fraction
}

/// The numbers of a case's name with commas, and `1 phones` as `1 phone`.
pub(crate) fn case(name: &str) -> String {
    let words: Vec<_> = name
        .split(' ')
        .map(|word| {
            if word.bytes().all(|byte| byte.is_ascii_digit()) {
                thousands(word)
            } else {
                word.to_owned()
            }
        })
        .collect();
    words
        .join(" ")
        .replace(" 1 phones", " 1 phone")
        .replace(" 1 server-ids", " 1 server-id")
        .replace(" 1 threads", " 1 thread")
}

pub(crate) fn threads(threads: usize) -> String {
    format!(
        "{threads} {}",
        if threads == 1 { "thread" } else { "threads" }
    )
}

pub(crate) fn time(ns: f64) -> String {
    let (scaled, unit) = match ns {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "µs"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    if scaled < 9.95 {
        format!("{scaled:.1} {unit}")
    } else {
        format!("{scaled:.0} {unit}")
    }
}

pub(crate) fn rate(per_second: f64) -> String {
    let (scaled, unit) = match per_second {
        rate if rate < 999.5 => (rate, ""),
        rate if rate < 999.5e3 => (rate / 1e3, " k"),
        rate if rate < 999.5e6 => (rate / 1e6, " M"),
        rate => (rate / 1e9, " G"),
    };
    if scaled < 9.95 {
        format!("{scaled:.1}{unit}/s")
    } else {
        format!("{scaled:.0}{unit}/s")
    }
}

/// The size of a frame.
pub(crate) fn bytes(bytes: f64) -> String {
    if bytes < 1024.0 {
        format!("{bytes:.0} B")
    } else {
        format!("{:.0} KiB", bytes / 1024.0)
    }
}

/// Two digits that mean something; three around 1, where they decide.
///
/// Below 1 it is cut, not rounded up to it.
pub(crate) fn ratio(ratio: f64) -> String {
    let ratio = if (0.999..1.0).contains(&ratio) {
        0.999
    } else {
        ratio
    };
    if ratio < 0.001 {
        "<0.001".to_owned()
    } else if ratio < 0.0095 {
        format!("{ratio:.4}")
    } else if ratio < 0.095 || (0.98..1.0).contains(&ratio) {
        format!("{ratio:.3}")
    } else if ratio < 1.05 {
        format!("{ratio:.2}")
    } else if ratio < 9.95 {
        format!("{ratio:.1}")
    } else {
        let digits = ratio.log10().floor() - 1.0;
        let unit = 10_f64.powf(digits);
        thousands(&format!("{:.0}", (ratio / unit).round() * unit))
    }
}

/// A loss is bold.
pub(crate) fn verdict(value: f64) -> String {
    let words = ratio(value);
    if value < 1.0 {
        format!("**{words}**")
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_never_reads_as_the_other_side_of_one() {
        assert_eq!(verdict(0.9994), "**0.999**");
        assert_eq!(verdict(0.98), "**0.980**");
        assert_eq!(verdict(0.5), "**0.50**");
        assert_eq!(verdict(1.0), "1.00");
        assert_eq!(verdict(1.04), "1.04");
        assert_eq!(verdict(2.0), "2.0");
    }

    #[test]
    fn a_large_ratio_has_two_digits_that_mean_something() {
        assert_eq!(ratio(10.4), "10");
        assert_eq!(ratio(127.0), "130");
        assert_eq!(ratio(12_345.0), "12,000");
    }

    #[test]
    fn a_time_has_the_unit_that_fits() {
        assert_eq!(time(9.94), "9.9 ns");
        assert_eq!(time(999.0), "999 ns");
        assert_eq!(time(999.9), "1.0 µs");
        assert_eq!(time(12_400_000.0), "12 ms");
    }

    #[test]
    fn a_rate_has_the_unit_that_fits() {
        assert_eq!(rate(12.0), "12/s");
        assert_eq!(rate(9_940.0), "9.9 k/s");
        assert_eq!(rate(999_900.0), "1.0 M/s");
        assert_eq!(rate(34_000_000.0), "34 M/s");
    }

    #[test]
    fn a_case_is_named_in_english() {
        assert_eq!(
            case("phones_for, 100000 phones"),
            "phones_for, 100,000 phones"
        );
        assert_eq!(case("binary_for, 1 server-ids"), "binary_for, 1 server-id");
        assert_eq!(
            case("register + unregister, 1 phones, 100 server-ids"),
            "register + unregister, 1 phone, 100 server-ids"
        );
    }
}
