package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var launcher map[string]func([]string) error

func init() {
	launcher = map[string]func([]string) error{"up": up, "down": down, "kill": kill, "status": status, "watch": watch}
}

// In the order they are started; stopped in reverse.
var order = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "process-kubelet"}

// up starts what is not running. It is idempotent: on a running testbed it only waits until that is ready.
func up(args []string) error {
	begin := time.Now()
	t := &testbed{Extra: map[string][]string{}}
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	dir := dirFlag(flags)
	flags.IntVar(&t.Port, "port", 16443, "port of the API server; the four after it are used too")
	flags.IntVar(&t.Nodes, "nodes", 3, "number of nodes")
	flags.StringVar(&t.Network, "network", "127.244", "first two octets of the pods' addresses")
	flags.StringVar(&t.Kubelet, "kubelet", "", "the program of the nodes, process-kubelet; without it there are none")
	owner := flags.Int("owner", 0, "wipe everything when the process with this id has ended")
	timeout := flags.Duration("timeout", 3*time.Minute, "give up when not ready by then")
	for _, component := range order {
		flags.Func(component+"-arg", "extra flag for "+component+" (repeatable)", func(value string) error {
			t.Extra[component] = append(t.Extra[component], value)
			return nil
		})
	}
	_ = flags.Parse(args)
	unlock, err := lock(*dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.openOrCreate(*dir); err != nil {
		return err
	}
	if *owner != 0 && running(t.Dir, "watch") == nil {
		if err := t.spawnSelf("watch", []string{"--dir", t.Dir, "--owner", fmt.Sprint(*owner)}); err != nil {
			return err
		}
	}
	if err := t.start(begin.Add(*timeout)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "kube: ready after %.1f s\n", time.Since(begin).Seconds())
	fmt.Println(filepath.Join(t.Dir, "admin.kubeconfig"))
	return nil
}

// lock lets one `up` at a time work on the directory, which it creates.
func lock(dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return func() { _ = file.Close() }, syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
}

func (t *testbed) start(deadline time.Time) error {
	for _, component := range order {
		if running(t.Dir, component) == nil { // crashed, or killed by somebody else
			_ = os.Remove(pidFile(t.Dir, component))
		}
	}
	for _, component := range t.components() {
		// The controller manager gives an absent apiserver ten seconds and then exits: it comes after.
		if component == "kube-controller-manager" {
			if err := t.wait("/readyz", deadline); err != nil {
				return err
			}
		}
		if running(t.Dir, component) != nil {
			continue
		}
		var err error
		if component == "process-kubelet" {
			err = spawn(t.Dir, component, t.Kubelet, t.args(component))
		} else {
			err = t.spawnSelf(component, t.args(component))
		}
		if err != nil {
			return err
		}
	}
	// The first thing that every pod needs of the controller manager.
	if err := t.wait("/api/v1/namespaces/default/serviceaccounts/default", deadline); err != nil {
		return err
	}
	return t.waitNodes(deadline)
}

func (t *testbed) spawnSelf(component string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return spawn(t.Dir, component, self, args)
}

func down(args []string) error {
	flags := flag.NewFlagSet("down", flag.ExitOnError)
	dir := dirFlag(flags)
	wipe := flags.Bool("wipe", false, "crash it and remove the data directory")
	_ = flags.Parse(args)
	signal := syscall.SIGTERM
	if *wipe {
		signal = syscall.SIGKILL
	}
	// The watcher calls this too, and must not end itself half way.
	if p := running(*dir, "watch"); *wipe && p != nil && p.pid != os.Getpid() {
		if err := stop(*dir, "watch", syscall.SIGKILL, time.Second); err != nil {
			return err
		}
	}
	for _, component := range slices.Backward(order) {
		// The apiserver would wait up to a minute for watches to end; nobody needs that here.
		if err := stop(*dir, component, signal, 2*time.Second); err != nil {
			return err
		}
	}
	if *wipe {
		return remove(*dir)
	}
	return nil
}

// remove deletes the directory. Pods have been killed with their kubelet, but the last of them may still be writing.
func remove(dir string) error {
	err := os.RemoveAll(dir)
	for range 20 {
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		err = os.RemoveAll(dir)
	}
	return err
}

// kill ends components with SIGKILL, as a crash does; `up` starts them again with the same flags.
func kill(args []string) error {
	flags := flag.NewFlagSet("kill", flag.ExitOnError)
	dir := dirFlag(flags)
	_ = flags.Parse(args)
	for _, component := range flags.Args() {
		if !slices.Contains(order, component) {
			return fmt.Errorf("%q is not one of %s", component, strings.Join(order, ", "))
		}
		if err := stop(*dir, component, syscall.SIGKILL, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// watch wipes everything once the owner has ended, by whatever means.
func watch(args []string) error {
	flags := flag.NewFlagSet("watch", flag.ExitOnError)
	dir := dirFlag(flags)
	owner := flags.Int("owner", 0, "process id")
	_ = flags.Parse(args)
	started, _, err := procStat(*owner)
	for p := (&process{*owner, started}); err == nil && p.lives(); {
		time.Sleep(500 * time.Millisecond)
	}
	unlock, err := lock(*dir) // an `up` may be under way
	if err != nil {
		return err
	}
	defer unlock()
	return down([]string{"--dir", *dir, "--wipe"})
}

func status(args []string) error {
	flags := flag.NewFlagSet("status", flag.ExitOnError)
	dir := dirFlag(flags)
	_ = flags.Parse(args)
	t, err := open(*dir)
	if err != nil {
		return err
	}
	for _, component := range t.components() {
		if p := running(*dir, component); p != nil {
			resident, cpu := p.usage()
			fmt.Printf("%-24s pid %-7d %4d MiB %7.1f s CPU\n", component, p.pid, resident, cpu)
		} else {
			fmt.Printf("%-24s not running\n", component)
		}
	}
	if _, err := t.get("/readyz"); err != nil {
		return err
	}
	ready, err := t.readyNodes()
	fmt.Printf("ready, %d of %d nodes too; KUBECONFIG=%s\n", ready, t.Nodes, filepath.Join(t.Dir, "admin.kubeconfig"))
	return err
}

func dirFlag(flags *flag.FlagSet) *string { return flags.String("dir", "", "data directory") }

func open(dir string) (*testbed, error) {
	t := &testbed{}
	if _, err := os.Stat(filepath.Join(dir, "testbed.json")); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no testbed in %s", dir)
	}
	return t, t.openOrCreate(dir)
}
