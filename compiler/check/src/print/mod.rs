//! Print-outs for people: what will run, and the picture of a program. Nothing here decides anything.
