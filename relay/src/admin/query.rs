//! The parameters of a request.

use percent_encoding::percent_decode_str;

use super::answer::Refusal;

/// The parameters with these names, in their order. Others are refused, since they may be misspelt.
///
/// Stricter than the form decoding of most libraries, which replaces what is not UTF-8: then a name could come
/// out that nobody has sent.
pub(super) fn parameters<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Result<[Option<String>; N], Refusal> {
    let mut values = [const { None }; N];
    let pairs = query.unwrap_or_default().split('&');
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name)?;
        let at = names.iter().position(|known| *known == name);
        let at = at.ok_or(Refusal::bad_request("the query has an unknown parameter"))?;
        if values[at].replace(decoded(value)?).is_some() {
            let why = "the query has a parameter twice";
            return Err(Refusal::bad_request(why));
        }
    }
    Ok(values)
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    let decoded = decoded.map_err(|_| Refusal::bad_request("the query is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// A number in decimal digits.
pub(super) fn number(text: &str) -> Option<u16> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_each_may_come_once() {
        let of = |query| parameters(Some(query), ["after", "limit"]).ok();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(""), Some([None, None]));
        assert_eq!(of("&limit=7&"), Some([None, some("7")]));
        assert_eq!(
            of("limit=&after=%2F%25%26+%2B%C3%A9="),
            Some([some("/%& +é="), some("")])
        );
        for bad in ["other=1", "after=a&after=b", "after=%FF", "%FF=a"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(parameters(None, ["code"]).is_ok());
    }

    #[test]
    fn a_number_has_digits_only() {
        assert_eq!(number("1000"), Some(1000));
        for bad in ["", "+1", "-1", "1.0", "1e3", " 1", "70000", "x"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
