//go:build !linux

package main

func who()        { say("nobody") }
func size()       { say("no terminal") }
func beStubborn() {} // there is nothing to be stubborn about
