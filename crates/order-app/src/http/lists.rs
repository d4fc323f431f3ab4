//! `GET /api/v1/orders`: orders in pages, newest first.

use std::str::FromStr;

use actix_web::http::Method;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use order_domain::{OrderFilter, OrderService};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::cursor;
use super::many_orders::ManyOrders;
use super::problem::{Problem, ProblemKind, only};
use super::query::Query;

const PATH: &str = "/api/v1/orders";
const FILTERS: [&str; 3] = ["track_number", "customer_id", "transaction"];
const PARAMETERS: &[&str] = &["track_number", "customer_id", "transaction", "limit", "cursor"];

/// Registers the routes. The service is expected as `web::Data<OrderService>`.
///
/// POST on the same path is registered before, by [`configure_publishing`](super::publishing::configure_publishing).
pub(crate) fn configure_order_lists(app: &mut web::ServiceConfig) {
    app.service(
        web::resource(PATH)
            .route(web::get().to(list))
            .route(web::head().to(list))
            .default_service(web::route().to(only(&[Method::GET, Method::HEAD, Method::POST]))),
    );
}

/// One page: the orders as their canonical JSON, and where the next page is, both as a cursor and as a link. The last page
/// has neither.
pub(crate) async fn list(
    request: HttpRequest,
    service: web::Data<OrderService>,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(request.query_string(), PARAMETERS)?;
    let [track_number, customer_id, transaction] = FILTERS.map(|name| query.parse(name));
    let filter = OrderFilter {
        track_number: track_number?,
        customer_id: customer_id?,
        transaction: transaction?,
    };
    let Limit(limit) = query.parse("limit")?.unwrap_or_default();
    let after = query.text("cursor").map(|text| cursor::decode(text, &filter));
    let after = after
        .transpose()
        .map_err(|error| Problem::new(ProblemKind::BadCursor).with_detail(error.to_string()))?;

    let (page, room) = service.list(filter.clone(), after, limit).await?;
    let next = page.next.map(|place| cursor::encode(&place, &filter));
    let mut response = HttpResponse::Ok();
    response
        .content_type(ContentType::json())
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    let rest = match &next {
        Some(cursor) => {
            response.insert_header((header::LINK, link(&query, cursor)));
            // A cursor has nothing that JSON would have to escape.
            format!(",\"next_cursor\":\"{cursor}\"")
        }
        None => String::new(),
    };
    Ok(response.body(ManyOrders::new(page.orders, rest, room)))
}

/// How many orders a page has.
struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Limit(50)
    }
}

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|_| is_plain);
        let limit = limit.filter(|limit| (1..=200).contains(limit));
        limit.map(Limit).ok_or("must be a number from 1 to 200")
    }
}

/// What stands in a query as it is (RFC 3986).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The next page as a link (RFC 8288): what was asked, from the cursor on.
fn link(query: &Query, cursor: &str) -> String {
    let mut link = format!("<{PATH}?");
    for name in PARAMETERS.iter().filter(|name| **name != "cursor") {
        if let Some(value) = query.text(name) {
            link.extend([name, "="]);
            link.extend(utf8_percent_encode(value, ENCODED));
            link.push('&');
        }
    }
    link.extend(["cursor=", cursor, ">; rel=\"next\""]);
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_plain_number_from_1_to_200() {
        for (text, limit) in [("1", 1), ("50", 50), ("200", 200), ("007", 7)] {
            assert_eq!(text.parse::<Limit>().map(|Limit(limit)| limit), Ok(limit));
        }
        for bad in [
            "",
            "0",
            "201",
            "-1",
            "+1",
            " 1",
            "1.0",
            "abc",
            "1000",
            "18446744073709551617",
        ] {
            assert!(bad.parse::<Limit>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_link_asks_the_same_and_is_encoded() {
        let query = Query::read("limit=5&track_number=a%26b+%22%3E%C3%A4&cursor=old", PARAMETERS).unwrap();
        assert_eq!(
            link(&query, "AQ-_"),
            "</api/v1/orders?track_number=a%26b%20%22%3E%C3%A4&limit=5&cursor=AQ-_>; rel=\"next\""
        );
    }
}
