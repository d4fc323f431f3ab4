//! `/problems/{slug}`: what the `type` of a problem leads to, for people.

use std::fmt::Write;

use actix_web::http::Method;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpResponse, web};

use super::problem::{Problem, ProblemKind, only};

/// The pages, one section each.
const PAGES: &str = include_str!("../../../../docs/problems.md");

/// Registers the route.
pub(crate) fn configure_problem_pages(app: &mut web::ServiceConfig) {
    app.service(
        web::resource("/problems/{slug}")
            .route(web::get().to(page))
            .route(web::head().to(page))
            .default_service(web::route().to(only(&[Method::GET, Method::HEAD]))),
    );
}

async fn page(slug: web::Path<String>) -> Result<HttpResponse, Problem> {
    let section = section(&slug).ok_or_else(|| Problem::new(ProblemKind::NotFound))?;
    Ok(HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((header::CACHE_CONTROL, "max-age=3600"))
        .body(rendered(&slug, section)))
}

/// The text under the heading `slug`.
fn section(slug: &str) -> Option<&'static str> {
    PAGES
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .find_map(|(heading, text)| (heading == slug).then_some(text.trim()))
}

/// A page that needs nothing from elsewhere. The sections are paragraphs of text and `code`, no more.
fn rendered(heading: &str, section: &str) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{heading}</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}</style>\
         <h1>{heading}</h1>"
    );
    for paragraph in section.split("\n\n") {
        page.push_str("<p>");
        for (index, text) in paragraph.split('`').enumerate() {
            let text = text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;");
            // Writing to a string does not fail.
            let _ = match index % 2 {
                0 => write!(page, "{text}"),
                _ => write!(page, "<code>{text}</code>"),
            };
        }
        page.push_str("</p>");
    }
    page.push_str("</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_problem_has_a_section_and_every_section_is_a_kind() {
        let kinds: BTreeSet<_> = ProblemKind::ALL
            .iter()
            .filter_map(|kind| kind.uri().strip_prefix("/problems/"))
            .collect();
        assert_eq!(kinds.len(), ProblemKind::ALL.len());
        let sections: BTreeSet<_> = PAGES
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .collect();
        assert_eq!(kinds, sections);
    }

    #[test]
    fn a_section_begins_with_the_status_that_the_kind_is_answered_with() {
        for kind in ProblemKind::ALL {
            let slug = kind.uri().trim_start_matches("/problems/");
            let text = section(slug).expect("every kind has a section");
            assert!(
                text.starts_with(&format!("{}. ", kind.status().as_u16())),
                "{slug}: {text}"
            );
        }
    }

    #[test]
    fn code_is_marked_and_nothing_is_taken_for_markup() {
        let page = rendered("x", "a `<b>` & c\n\nd");
        assert!(
            page.contains("<p>a <code>&lt;b&gt;</code> &amp; c</p><p>d</p>"),
            "{page}"
        );
    }
}
