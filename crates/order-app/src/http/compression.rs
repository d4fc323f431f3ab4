//! Answers in fewer bytes, for those who ask.

use actix_http::ContentEncoding;
use actix_http::encoding::Encoder;
use actix_web::body::{BodySize, EitherBody, MessageBody, to_bytes};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, web};
use futures::TryFutureExt;
use futures::future::{Either, ready};

/// What is shorter travels in one or two packets whatever is done to it.
const WORTH_IT: u64 = 2_048;

/// The codings, the best one first: zstd is the quickest here, brotli the smallest, gzip known to all.
const CODINGS: [(&str, ContentEncoding); 3] = [
    ("zstd", ContentEncoding::Zstd),
    ("br", ContentEncoding::Brotli),
    ("gzip", ContentEncoding::Gzip),
];

/// A layer that compresses whole answers. Those who do not ask pay one look at their headers, and what is streamed is left alone.
/// The length is known afterwards too, and `HEAD` has the same one as `GET`.
pub(crate) fn with_compression<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<B, web::Bytes>>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let asked = match request.headers().contains_key(header::ACCEPT_ENCODING) {
        true => asked(request.headers()),
        false => None,
    };
    service.call(request).and_then(move |mut response| {
        if is_cacheable_or_large(&response) {
            // Whoever keeps an answer must know that another caller may get another form of it.
            response
                .headers_mut()
                .append(header::VARY, HeaderValue::from_static("accept-encoding"));
            if let Some(coding) = asked
                && is_worth_it(&response)
            {
                // In a box, or every request would carry the room for it through all layers.
                return Either::Right(Box::pin(compress(response, coding)));
            }
        }
        Either::Left(ready(Ok(response.map_into_left_body())))
    })
}

/// The coding that is asked for, if one of ours is.
fn asked(headers: &HeaderMap) -> Option<ContentEncoding> {
    let mut best = None;
    let mut plain = 0.0;
    let items = headers
        .get_all(header::ACCEPT_ENCODING)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for item in items {
        let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
        let name = name.trim();
        let weight: f32 = match weight.trim().strip_prefix("q=").map(str::parse) {
            Some(Ok(weight)) => weight,
            _ => 0.0,
        };
        if name.eq_ignore_ascii_case("identity") {
            plain = weight;
        }
        for (rank, (known, coding)) in CODINGS.iter().enumerate() {
            let is_better = match best {
                None => weight > 0.0,
                Some((best_weight, best_rank, _)) => {
                    weight > best_weight || (weight == best_weight && rank < best_rank)
                }
            };
            if name.eq_ignore_ascii_case(known) && is_better {
                best = Some((weight, rank, *coding));
            }
        }
    }
    best.filter(|(weight, ..)| *weight >= plain)
        .map(|(.., coding)| coding)
}

/// Whether an answer is one that has, or could have had, several forms.
fn is_cacheable_or_large<B: MessageBody>(response: &ServiceResponse<B>) -> bool {
    let is_stream = matches!(response.response().body().size(), BodySize::Stream);
    match response.status() {
        StatusCode::OK => !is_stream && !response.headers().contains_key(header::CONTENT_ENCODING),
        StatusCode::NOT_MODIFIED => matches!(*response.request().method(), Method::GET | Method::HEAD),
        _ => false,
    }
}

fn is_worth_it<B: MessageBody>(response: &ServiceResponse<B>) -> bool {
    matches!(response.response().body().size(), BodySize::Sized(length) if length >= WORTH_IT)
}

/// Compresses a whole answer on a thread that may block.
async fn compress<B: MessageBody>(
    response: ServiceResponse<B>,
    coding: ContentEncoding,
) -> Result<ServiceResponse<EitherBody<B, web::Bytes>>, Error> {
    let (request, response) = response.into_parts();
    // actix-http's encoder says `Vary` by itself; it stands there already.
    let vary: Vec<_> = response.headers().get_all(header::VARY).cloned().collect();
    let response = response.map_body(|head, body| Encoder::response(coding, head, body));
    let (mut response, body) = response.into_parts();
    response.headers_mut().remove(header::VARY);
    for value in vary {
        response.headers_mut().append(header::VARY, value);
    }
    let body = to_bytes(body).await.map_err(|error| {
        let error: Box<dyn std::error::Error> = error.into();
        tracing::error!(%error, "failed to compress an answer");
        actix_web::error::ErrorInternalServerError("failed to compress")
    })?;
    Ok(ServiceResponse::new(
        request,
        response.set_body(EitherBody::right(body)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_coding_of_those_asked_for_is_taken() {
        for (value, expected) in [
            ("gzip", Some(ContentEncoding::Gzip)),
            ("gzip, deflate, br, zstd", Some(ContentEncoding::Zstd)),
            ("zstd;q=0.5, br;q=0.8, gzip;q=0.8", Some(ContentEncoding::Brotli)),
            ("GZIP ; q=1", Some(ContentEncoding::Gzip)),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("*", None),
            ("deflate", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(asked(&headers), expected, "{value}");
        }
    }

    #[test]
    fn what_is_asked_for_may_stand_in_several_lines() {
        let mut headers = HeaderMap::new();
        for value in ["gzip;q=0.1", "br;q=0.2"] {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        assert_eq!(asked(&headers), Some(ContentEncoding::Brotli));
    }
}
