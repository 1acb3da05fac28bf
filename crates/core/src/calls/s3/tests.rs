//! Tests of its parent.

use super::*;

#[test]
fn a_bucket_is_in_the_host_where_its_certificate_allows_it() {
    let url = |name| url_of(None, name, "eu-west-1", Hosts::default());
    assert_eq!(url("copies"), "https://copies.s3.eu-west-1.amazonaws.com");
    assert_eq!(url("a.b"), "https://s3.eu-west-1.amazonaws.com/a.b");
    assert_eq!(
        url_of(None, "copies", "cn-north-1", Hosts::default()),
        "https://copies.s3.cn-north-1.amazonaws.com.cn"
    );
    assert_eq!(
        url_of(
            Some("http://127.0.0.1:1/"),
            "copies",
            "eu-west-1",
            Hosts::default()
        ),
        "http://127.0.0.1:1/copies"
    );
}

/// The hosts that boto3 gives for the same settings.
#[test]
fn partitions_fips_and_dual_stack_have_hosts_of_their_own() {
    let url =
        |bucket, region, fips, dual_stack| url_of(None, bucket, region, Hosts { fips, dual_stack });
    for (bucket, region, fips, dual_stack, expected) in [
        (
            "copies",
            "us-east-1",
            true,
            false,
            "https://copies.s3-fips.us-east-1.amazonaws.com",
        ),
        (
            "a.b",
            "us-east-1",
            true,
            false,
            "https://s3-fips.us-east-1.amazonaws.com/a.b",
        ),
        (
            "copies",
            "eu-west-1",
            false,
            true,
            "https://copies.s3.dualstack.eu-west-1.amazonaws.com",
        ),
        (
            "copies",
            "us-east-1",
            true,
            true,
            "https://copies.s3-fips.dualstack.us-east-1.amazonaws.com",
        ),
        (
            "copies",
            "cn-north-1",
            false,
            true,
            "https://copies.s3.dualstack.cn-north-1.amazonaws.com.cn",
        ),
        (
            "copies",
            "eusc-de-east-1",
            false,
            false,
            "https://copies.s3.eusc-de-east-1.amazonaws.eu",
        ),
        (
            "a.b",
            "eusc-de-east-1",
            false,
            false,
            "https://s3.eusc-de-east-1.amazonaws.eu/a.b",
        ),
    ] {
        assert_eq!(url(bucket, region, fips, dual_stack), expected);
    }
}

#[tokio::test]
async fn an_upload_that_nobody_takes_or_answers_is_given_up() {
    Flow::default().stopped(Duration::from_millis(1)).await;
    let waiting = Flow::default();
    waiting.waits_for_source.store(true, Ordering::Relaxed);
    let stopped = waiting.stopped(Duration::from_millis(1));
    let outcome = tokio::time::timeout(Duration::from_millis(20), stopped).await;
    assert!(outcome.is_err(), "a slow source is no fault of S3's");
}

#[test]
fn an_answer_is_read_for_its_words() {
    let text = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    assert_eq!(element(text, "Code"), Some("AccessDenied"));
    assert_eq!(element(text, "Nothing"), None);
}

#[test]
fn the_statement_names_the_prefix() {
    assert!(statement("b", "/p/", "eu-west-1").ends_with(r#""Resource":"arn:aws:s3:::b/p/*"}"#));
    assert!(statement("b", "", "cn-north-1").ends_with(r#""Resource":"arn:aws-cn:s3:::b/*"}"#));
}
