//! The copies that a distribution of CloudFront has.

use std::time::Duration;

use aws::{Service, encoded, texts};
use stagewright_sdk::{Error, Result, clock, context, environment, log};

use crate::config::Cloudfront;

const API: &str = "/2020-05-31/distribution";
const NAMESPACE: &str = "http://cloudfront.amazonaws.com/doc/2020-05-31/";

/// Between two looks at an invalidation, which takes a minute or two.
const INTERVAL: Duration = Duration::from_secs(2);

/// Invalidates the copies, and waits until that has reached all places. `release`: what the paths have now.
pub(crate) fn invalidate(cloudfront: &Cloudfront, release: &str) -> Result<()> {
    let service = Service::of_credential(&cloudfront.credential)?;
    let path = format!("{API}/{}/invalidation", encoded(&cloudfront.distribution));
    let mut request = service.request("POST", &path);
    request.header("content-type", "text/xml").body(batch(cloudfront, release).as_bytes());
    let created = service.send("CreateInvalidation", request)?.text()?;
    let id = texts(&created, &["Invalidation", "Id"])?.into_iter().next();
    let id = id.ok_or_else(|| Error::internal("the answer to CreateInvalidation has no id"))?;
    log::info(format!("invalidating {} of the distribution {}", cloudfront.paths.join(", "), cloudfront.distribution));
    let start = clock::monotonic();
    loop {
        let found =
            service.send("GetInvalidation", service.request("GET", &format!("{path}/{}", encoded(&id))))?.text()?;
        if texts(&found, &["Invalidation", "Status"])? == ["Completed"] {
            return Ok(());
        }
        if clock::monotonic().saturating_sub(start) > cloudfront.deadline.0 {
            let message = format!("the invalidation {id} didn't complete within {} s", cloudfront.deadline.0.as_secs());
            return Err(Error::failed(message).help("if it needs more time, raise `cloudfront.deadline`"));
        }
        clock::sleep(INTERVAL)?;
    }
}

/// The body of `CreateInvalidation`. The reference makes a repeated request the same one.
fn batch(cloudfront: &Cloudfront, release: &str) -> String {
    let mark = environment::fence().map_or_else(context::run_id, |fence| fence.to_string());
    let reference = format!("stagewright-{mark}-{}-{release}", clock::now().as_secs());
    let items: String = cloudfront.paths.iter().map(|path| format!("<Path>{}</Path>", aws::escaped(path))).collect();
    let quantity = cloudfront.paths.len();
    format!(
        "<InvalidationBatch xmlns=\"{NAMESPACE}\"><Paths><Quantity>{quantity}</Quantity><Items>{items}</Items></Paths>\
         <CallerReference>{reference}</CallerReference></InvalidationBatch>"
    )
}
