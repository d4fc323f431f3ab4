//! What several tasks take as arguments.

/// A share of a hundred.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&number) {
        Ok(number)
    } else {
        Err("not between 0 and 100".to_owned())
    }
}

/// A setting of the service as it is given to a task: without `ORDERS__`.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in CACHE__LEASE=10s".to_owned()),
    }
}
