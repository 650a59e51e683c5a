"""SyncNet as the lip-sync measures use it: network, sound features, distances."""
