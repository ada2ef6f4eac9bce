//! Access control lists: read or refused, and closed for what they don't name.

use grid_rpc::auth::{Acl, Identity};

const UNNAMED: &str = "an instance that no list names";

pub(crate) fn run(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    if text.contains("an instance") {
        return;
    }
    if let Ok(acl) = Acl::parse(text) {
        let anybody = Identity { subject: "s".into(), actor: "a".into(), workflow: "w".into() };
        assert!(!acl.permits(UNNAMED, "Execute", &anybody), "open for what it does not name");
    }
}
