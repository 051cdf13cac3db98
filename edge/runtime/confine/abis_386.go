package confine

// abis are the ways into the kernel that a program has on this processor.
var abis = []abi{callsX86}
