// Command kube-testbed is a real Kubernetes control plane in one binary, for tests on loopback.
//
// As a multi-call binary it is etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kubectl (chosen by argv[0]
// or argv[1]). As `kube-testbed up|down|kill|status` it is the launcher that starts those components, and the nodes, as
// child processes and keeps their pids, logs and certificates in one directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// Constructors, not commands: each registers feature gates and metrics of the whole process, so only the chosen one may
// run.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": kcm.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

const usage = `usage: kube-testbed up|down|kill|status [flags]
       kube-testbed etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl [flags]`

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args
	if !isCommand(name) {
		if len(args) < 2 || !isCommand(args[1]) {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		name, args = args[1], args[1:]
	}
	os.Args = args
	switch {
	case name == "etcd":
		etcdmain.Main(args)
	case name == "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
	case launcher[name] != nil:
		if err := launcher[name](args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "kube-testbed", name+":", err)
			os.Exit(1)
		}
	default:
		cmd := components[name]()
		cmd.SetArgs(args[1:])
		os.Exit(cli.Run(cmd))
	}
}

func isCommand(name string) bool {
	return name == "etcd" || name == "kubectl" || components[name] != nil || launcher[name] != nil
}
