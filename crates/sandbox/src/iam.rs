//! Identity and Access Management: what the account calls itself.

use crate::{
    app::{App, Call},
    error::ApiError,
    query,
    reply::Reply,
    xml::Form,
};

pub(crate) fn answer(
    app: &App,
    call: &Call,
    action: &str,
    _form: &Form,
) -> Result<Reply, ApiError> {
    match action {
        "ListAccountAliases" => Ok(list_account_aliases(app, call)),
        other => Err(ApiError::unknown_action(call.service, other)),
    }
}

fn list_account_aliases(app: &App, call: &Call) -> Reply {
    query::answer(call, "ListAccountAliases", |xml| {
        xml.text("IsTruncated", "false");
        xml.element("AccountAliases", |xml| {
            if let Some(alias) = &app.fleet.file().account_alias {
                xml.text("member", alias);
            }
        });
    })
}
