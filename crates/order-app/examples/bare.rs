//! The floor under the service's hot reads: actix-web with one handler that sends the same head and body to everyone.
//! `cargo xtask bench` starts it.
//!
//! Arguments: the address, the number of workers, a file of header lines, and a file with the body.

use std::io::Error;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, HttpResponse, HttpServer, web};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[actix_web::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || {
        arguments
            .next()
            .ok_or_else(|| Error::other("an argument is missing"))
    };
    let (address, workers) = (argument()?, argument()?.parse().map_err(Error::other)?);
    let head = std::fs::read_to_string(argument()?)?;
    let body = web::Bytes::from(std::fs::read(argument()?)?);
    let headers: Vec<(HeaderName, HeaderValue)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| Ok((name.parse()?, value.parse()?)))
        .collect::<Result<_, Box<dyn std::error::Error + Send + Sync>>>()
        .map_err(Error::other)?;
    HttpServer::new(move || {
        let (headers, body) = (headers.clone(), body.clone());
        App::new().default_service(web::to(move || {
            let mut response = HttpResponse::Ok();
            for (name, value) in &headers {
                response.insert_header((name.clone(), value.clone()));
            }
            std::future::ready(response.body(body.clone()))
        }))
    })
    .workers(workers)
    .bind(address)?
    .run()
    .await
}
