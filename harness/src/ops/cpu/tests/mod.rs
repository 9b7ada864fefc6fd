mod conv;
mod elementwise;
mod lif;
mod reference;
