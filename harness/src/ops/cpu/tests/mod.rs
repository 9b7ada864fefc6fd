mod conv;
mod elementwise;
mod lif;
pub(super) mod reference;
