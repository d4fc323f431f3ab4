//! `report.html`: one page that needs nothing but itself.

use anyhow::Result;
use serde::Serialize;

use super::{Run, StressResult};
use crate::stress::baseline;

/// The page, which draws itself from the data put into it.
const PAGE: &str = include_str!("report.html");
/// Where the data go.
const PLACE: &str = "/*DATA*/null";

/// What the page draws.
#[derive(Serialize)]
struct Data<'a> {
    baseline: Option<&'a StressResult>,
    result: &'a StressResult,
    /// What each run is held against.
    before: Vec<Option<&'a Run>>,
}

/// The page for these results.
///
/// # Errors
///
/// Where they cannot be written as JSON.
pub(super) fn page(result: &StressResult, baseline: Option<&StressResult>) -> Result<String> {
    let before = |run| baseline::same_run(baseline?, run);
    let data = Data {
        baseline,
        result,
        before: result.runs.iter().map(before).collect(),
    };
    // Within a script nothing may look like the end of one.
    let data = serde_json::to_string(&data)?.replace('<', "\\u003c");
    Ok(PAGE.replacen(PLACE, &data, 1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_page_holds_its_data_and_loads_nothing() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
        let lower = PAGE.to_lowercase();
        for loads in [
            "http:",
            "https:",
            "src=",
            "href=",
            "url(",
            "@import",
            "fetch(",
            "import(",
            "xmlhttprequest",
        ] {
            assert!(!lower.contains(loads), "the page has `{loads}`");
        }
        let result = sample();
        let page = page(&result, Some(&result)).unwrap();
        assert!(!page.contains(PLACE));
        assert!(
            page.contains("503 where 200 is right \\u003cb>"),
            "what a server says is no markup"
        );
        assert_eq!(
            page.matches("</script>").count(),
            PAGE.matches("</script>").count()
        );
    }

    #[test]
    fn what_is_in_the_page_is_the_result() {
        let result = sample();
        let page = page(&result, None).unwrap();
        let begin = page.find("{\"baseline\"").unwrap();
        let mut values = serde_json::Deserializer::from_str(&page[begin..]).into_iter::<serde_json::Value>();
        let data = values.next().unwrap().unwrap();
        let reads = &data["result"]["runs"][0]["reads"];
        assert_eq!(
            (&data["result"]["mode"], &reads["requests"]),
            (&"read".into(), &1_000.into())
        );
        assert_eq!(reads["errors"]["503 where 200 is right <b>"], 1);
        assert!(data["baseline"].is_null());
    }
}
