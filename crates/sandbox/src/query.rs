//! Answers of the services that speak AWS's query protocol.

use http::StatusCode;

use crate::{app::Call, reply::Reply, xml::Xml};

/// The answer of a query service to `action`, with what `result` writes in it.
pub(crate) fn answer(call: &Call, action: &str, result: impl FnOnce(&mut Xml)) -> Reply {
    let mut xml = Xml::new();
    let namespace = call.service.query_namespace().unwrap_or_default();
    xml.root(&format!("{action}Response"), namespace, |xml| {
        xml.element(&format!("{action}Result"), result);
        xml.element("ResponseMetadata", |xml| {
            xml.text("RequestId", &call.request_id);
        });
    });
    Reply::xml(StatusCode::OK, xml.finish())
}
