//! What every server does alike with each entry of the replicated log: the tree, the sessions. No IO, no clock.
