//! Every service of the Remote Execution API and the Remote Workers API.

fn main() {}
