package workload

import (
	"strconv"
	"strings"
)

// ContainerID names one run of a container: workload_container_run. Ids of workloads and containers have no underscore.
func ContainerID(workload, container string, run int) string {
	return workload + "_" + container + "_" + strconv.Itoa(run)
}

// ParseContainerID takes such a name apart; ok is false for any other.
func ParseContainerID(id string) (workload, container string, run int, ok bool) {
	parts := strings.Split(id, "_")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return "", "", 0, false
	}
	run, err := strconv.Atoi(parts[2])
	return parts[0], parts[1], run, err == nil && run >= 0
}
