//! The names in a path.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use super::answer::Refusal;

/// The segments of a path, already decoded, in which a slash was `%2F`.
pub(super) type Segments<T> = Result<Path<T>, PathRejection>;

pub(super) fn decoded<T>(segments: Segments<T>) -> Result<T, Refusal> {
    let why = "the path is not UTF-8 in percent-encoding";
    let Path(names) = segments.map_err(|_| Refusal::bad_request(why))?;
    Ok(names)
}
