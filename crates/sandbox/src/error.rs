//! Errors of the API calls, in AWS's own codes and shapes.

use std::borrow::Cow;

use http::{HeaderName, StatusCode};
use serde_json::json;

use crate::{reply::Reply, service::Service, xml::Xml};

/// What a call answers in place of a result.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
}

impl ApiError {
    /// A fault of the caller: status 400.
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: code.into(),
            message: message.into(),
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// A constraint of the request's shape, as every JSON service words it.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(crate) fn internal(service: Service) -> Self {
        let code = match service {
            Service::Ec2 | Service::S3 => "InternalError",
            Service::Sts => "InternalFailure",
            Service::Iam => "ServiceFailure",
            _ => "InternalServerError",
        };
        Self::new(code, "An internal error occurred on the server side.")
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn throttled(service: Service) -> Self {
        match service {
            Service::Ec2 => Self::new("RequestLimitExceeded", "Request limit exceeded.")
                .with_status(StatusCode::SERVICE_UNAVAILABLE),
            Service::S3 => Self::new("SlowDown", "Please reduce your request rate.")
                .with_status(StatusCode::SERVICE_UNAVAILABLE),
            Service::Sts | Service::Iam => Self::new("Throttling", "Rate exceeded"),
            _ => Self::new("ThrottlingException", "Rate exceeded"),
        }
    }

    /// `action` is `service:Action`; `resource` an ARN or `*`.
    pub(crate) fn denied(service: Service, caller: &str, action: &str, resource: &str) -> Self {
        let why = format!("because no identity-based policy allows the {action} action");
        match service {
            Service::Ec2 => Self::new(
                "UnauthorizedOperation",
                format!("You are not authorized to perform this operation. User: {caller} is not authorized to perform: {action} {why}"),
            )
            .with_status(StatusCode::FORBIDDEN),
            Service::Sts | Service::Iam | Service::S3 => Self::new(
                "AccessDenied",
                format!("User: {caller} is not authorized to perform: {action} on resource: {resource} {why}"),
            )
            .with_status(StatusCode::FORBIDDEN),
            Service::InstanceConnect => Self::new(
                "AccessDeniedException",
                format!("User: {caller} is not authorized to perform: {action} on resource: {resource} {why}"),
            ).with_status(StatusCode::FORBIDDEN),
            _ => Self::new(
                "AccessDeniedException",
                format!("User: {caller} is not authorized to perform: {action} on resource: {resource} {why}"),
            ),
        }
    }

    pub(crate) fn unknown_action(service: Service, action: &str) -> Self {
        match service {
            Service::Ec2 | Service::Sts | Service::Iam => Self::new(
                "InvalidAction",
                format!("The action {action} is not valid for this web service."),
            ),
            Service::S3 => Self::new(
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
            )
            .with_status(StatusCode::NOT_IMPLEMENTED),
            _ => Self::new(
                "UnknownOperationException",
                format!("Unknown operation {action}"),
            ),
        }
    }

    /// The answer in the shape of `service`.
    pub(crate) fn reply(&self, service: Service, request_id: &str) -> Reply {
        let mut xml = Xml::new();
        let body = match service {
            Service::Ec2 => {
                xml.element("Response", |xml| {
                    xml.element("Errors", |xml| {
                        xml.element("Error", |xml| {
                            xml.text("Code", &self.code).text("Message", &self.message);
                        });
                    });
                    xml.text("RequestID", request_id);
                });
                xml.finish()
            }
            Service::Sts | Service::Iam => {
                let namespace = service.query_namespace().unwrap_or_default();
                xml.root("ErrorResponse", namespace, |xml| {
                    xml.element("Error", |xml| {
                        let kind = if self.status.is_server_error() {
                            "Receiver"
                        } else {
                            "Sender"
                        };
                        xml.text("Type", kind)
                            .text("Code", &self.code)
                            .text("Message", &self.message);
                    });
                    xml.text("RequestId", request_id);
                });
                xml.finish()
            }
            Service::S3 => {
                xml.element("Error", |xml| {
                    xml.text("Code", &self.code)
                        .text("Message", &self.message)
                        .text("RequestId", request_id);
                });
                xml.finish()
            }
            _ => {
                // Modelled errors spell the member `Message`, those of the front end `message`.
                let front_end = matches!(
                    self.code.as_ref(),
                    "ValidationException"
                        | "UnrecognizedClientException"
                        | "InvalidSignatureException"
                        | "MissingAuthenticationTokenException"
                        | "IncompleteSignatureException"
                        | "ExpiredTokenException"
                        | "ThrottlingException"
                );
                let member = if front_end { "message" } else { "Message" };
                if service == Service::ResourceGroups {
                    // REST services tell the code in a header.
                    let name = HeaderName::from_static("x-amzn-errortype");
                    let body = json!({ "Message": self.message });
                    return Reply::json(self.status, &body).header(name, &self.code);
                }
                let mut body = json!({ "__type": self.code });
                body[member] = json!(self.message);
                return Reply::amz_json(self.status, &body);
            }
        };
        Reply::xml(self.status, body)
    }
}
