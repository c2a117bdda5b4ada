package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A process is a component as its pid file remembers it. The start time guards against a pid that the kernel gave to
// somebody else since.
type process struct {
	pid     int
	started string
}

func pidFile(dir, component string) string { return filepath.Join(dir, component+".pid") }

// spawn starts a program under the component's name, in its own session so that it outlives the launcher, with its output
// appended to COMPONENT.log.
func spawn(dir, component, program string, args []string) error {
	log, err := os.OpenFile(filepath.Join(dir, component+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: program, Args: append([]string{component}, args...), Dir: dir, Stdout: log, Stderr: log,
		Env:         append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, "admin.kubeconfig")),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	started, _, _ := procStat(cmd.Process.Pid)
	text := fmt.Sprintf("%d %s\n", cmd.Process.Pid, started)
	return errors.Join(os.WriteFile(pidFile(dir, component), []byte(text), 0o600), cmd.Process.Release())
}

// running returns the component's live process, or nil.
func running(dir, component string) *process {
	text, err := os.ReadFile(pidFile(dir, component))
	if err != nil {
		return nil
	}
	var p process
	if _, err := fmt.Sscan(string(text), &p.pid, &p.started); err != nil {
		return nil
	}
	if !p.lives() {
		return nil
	}
	return &p
}

func (p *process) lives() bool {
	started, state, err := procStat(p.pid)
	return err == nil && started == p.started && state != "Z"
}

// procStat reads the start time (in ticks since boot) and the state letter of a process.
func procStat(pid int) (started, state string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	return string(fields[19]), string(fields[0]), nil
}

// usage returns resident memory in MiB and CPU seconds so far.
func (p *process) usage() (residentMiB int, cpuSeconds float64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(value, &residentMiB)
		}
	}
	var user, system float64
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	_, _ = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return residentMiB / 1024, (user + system) / 100
}

// stop sends the signal and waits until the process is gone; when patience has run out it sends SIGKILL.
func stop(dir, component string, signal syscall.Signal, patience time.Duration) error {
	p := running(dir, component)
	if p == nil {
		return nil
	}
	_ = syscall.Kill(p.pid, signal)
	for deadline := time.Now().Add(patience); running(dir, component) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			deadline = time.Now().Add(patience)
		}
	}
	return os.Remove(pidFile(dir, component))
}
