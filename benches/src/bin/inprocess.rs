//! Ours: gateway, in-process bus, worker and router in one process, with trivial typed and validated handlers.
fn main() {}
