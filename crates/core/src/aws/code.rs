//! The error codes of all services, by what they mean for the user.

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What a failure means, whatever the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Expired,
    BadCredentials,
    Clock,
    Denied,
    Throttled,
    RegionOff,
    Other,
}

/// Puts an error code in its class. The lists hold EC2's spellings, which has its own, beside the
/// JSON services'.
pub(crate) fn meaning(code: &str) -> Meaning {
    match without_namespace(code) {
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Meaning::Expired,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Meaning::Clock,
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidAccessKeyId"
        | "NotAuthorizedException" => Meaning::BadCredentials,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "UnauthorizedException"
        | "Forbidden" => Meaning::Denied,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Meaning::Throttled,
        "OptInRequired" | "RegionDisabledException" => Meaning::RegionOff,
        _ => Meaning::Other,
    }
}

/// The service's own error code of `error`, without its namespace.
pub(crate) fn code_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.code().map(without_namespace)
}

/// `code` alone: JSON services put a namespace before it (`com.amazonaws.ssm#`) and may put a
/// documentation URL behind it.
pub(super) fn without_namespace(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_all_services_fall_into_their_class() {
        assert_eq!(meaning("ExpiredTokenException"), Meaning::Expired);
        assert_eq!(
            meaning("com.amazonaws.ssm#AccessDeniedException"),
            Meaning::Denied
        );
        assert_eq!(meaning("ThrottlingException:http://x/"), Meaning::Throttled);
        assert_eq!(meaning("UnauthorizedOperation"), Meaning::Denied);
        assert_eq!(meaning("TargetNotConnected"), Meaning::Other);
    }
}
