// Package rootfs makes what a container sees as its files: the layers of its image under a layer of its own, the file systems
// that programs expect, and the mounts that were wanted. It changes the mount namespace of the process that calls it.
//
// Every path that an image or a container can influence is walked one name at a time beneath the root, so that a symbolic link
// in it leads nowhere else.
package rootfs
