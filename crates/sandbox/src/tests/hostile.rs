//! What anybody on this computer can send: no panic, no answer that believes it.

use proptest::prelude::*;

use crate::{
    duration::{parse_bytes, parse_duration, parse_share},
    ec2::page_start,
    sigv4::Claim,
    xml::{Form, Xml, escape},
};

proptest! {
    #[test]
    fn authorization_of_any_text_is_read_without_panic(
        authorization in "(AWS4-HMAC-SHA256 )?(Credential=)?[ -~]{0,80}(/2026|/aws4_request|, SignedHeaders=|, Signature=)?[ -~]{0,40}",
        date in "[ -~]{0,20}",
        query in "[!-~&&[^#\\\\<>\"`{}|^]]{0,120}",
    ) {
        let request = http::Request::builder()
            .uri(format!("/?{query}"))
            .header("authorization", authorization)
            .header("x-amz-date", date)
            .body(());
        if let Ok(request) = request {
            let _ = Claim::read(&request.into_parts().0);
        }
        if let Ok(request) = http::Request::builder().uri(format!("/?X-Amz-Algorithm=AWS4-HMAC-SHA256&{query}")).body(()) {
            let _ = Claim::read(&request.into_parts().0);
        }
    }

    #[test]
    fn small_readers_take_any_text(text in "\\PC{0,60}") {
        let _ = (parse_duration(&text), parse_bytes(&text), parse_share(&text), page_start(&text));
        let _ = Form::parse(&text).list("Filter.1.Value");
        let _ = text.parse::<crate::Faults>();
    }

    #[test]
    fn text_in_xml_opens_and_closes_nothing(text in any::<String>()) {
        let escaped = escape(&text);
        let is_markup = escaped.contains(['<', '>', '"', '\u{0}', '\u{1b}']);
        prop_assert!(!is_markup);
        let mut xml = Xml::default();
        xml.text("a", &text);
        let document = xml.finish();
        prop_assert_eq!(document.matches('<').count(), 2);
    }
}
