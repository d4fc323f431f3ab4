//! `POST /api/v1/lookup`: many orders by their uids.

use actix_web::http::Method;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use order_domain::{OrderService, OrderUid};
use serde::Deserialize;

use super::body::Body;
use super::many_orders::ManyOrders;
use super::orders::requires_proof;
use super::problem::{PlacedFault, Problem, ProblemKind, only};

/// How many orders may be looked up at once.
const UIDS: usize = 500;

/// Registers the route. The service is expected as `web::Data<OrderService>`.
pub(crate) fn configure_lookup(app: &mut web::ServiceConfig) {
    app.service(
        web::resource("/api/v1/lookup")
            .route(web::post().to(look_up))
            .default_service(web::route().to(only(&[Method::POST]))),
    );
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupRequest {
    /// 1 to 500 of them. One that is given twice is answered once.
    order_uids: Vec<String>,
}

/// The orders that there are, in the order asked for, and the names of the others: `missing` do not exist, `remaining` (only
/// there if there are any) were left out, because the answer would be too large or because they cannot be read now.
async fn look_up(
    request: HttpRequest,
    service: web::Data<OrderService>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let uids = checked(body.parse()?)?;
    drop(body);
    let found = service.look_up_many(&uids, requires_proof(&request)).await?;

    let mut response = HttpResponse::Ok();
    response
        .content_type(ContentType::json())
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    if let Some(age) = found.age {
        response.insert_header((header::AGE, age.as_secs()));
    }
    let mut rest = member("missing", &found.missing);
    if !found.remaining.is_empty() {
        rest += &member("remaining", &found.remaining);
    }
    Ok(response.body(ManyOrders::new(found.orders, rest, found.room)))
}

/// A member of a JSON object. Uids have nothing that JSON would have to escape.
fn member(name: &str, uids: &[OrderUid]) -> String {
    let uids: Vec<String> = uids.iter().map(|uid| format!("\"{uid}\"")).collect();
    format!(",\"{name}\":[{}]", uids.join(","))
}

fn checked(request: LookupRequest) -> Result<Vec<OrderUid>, Problem> {
    let problem = |errors| Problem::new(ProblemKind::BadJson).with_errors(errors);
    let given = request.order_uids;
    if !(1..=UIDS).contains(&given.len()) {
        return Err(problem(vec![PlacedFault {
            pointer: "/order_uids".to_owned(),
            detail: format!("must have 1 to {UIDS} uids, has {}", given.len()),
        }]));
    }
    let (mut uids, mut errors) = (Vec::with_capacity(given.len()), Vec::new());
    for (place, text) in given.iter().enumerate() {
        match OrderUid::new(text) {
            Ok(uid) => uids.push(uid),
            Err(error) => errors.push(PlacedFault {
                pointer: format!("/order_uids/{place}"),
                detail: error.to_string(),
            }),
        }
    }
    match errors.is_empty() {
        true => Ok(uids),
        false => Err(problem(errors)),
    }
}
