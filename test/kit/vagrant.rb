# frozen_string_literal: true

# Evaluates a Vagrantfile with Vagrant itself, and prints the machines that it defines as JSON: vagrant.rb FOLDER PROVIDER.
require 'json'
require 'vagrant'

folder, provider = ARGV
environment = Vagrant::Environment.new(cwd: folder, ui_class: Vagrant::UI::Silent)
machines = environment.machine_names.map do |name|
  found = environment.vagrantfile.machine_config(name, provider.to_sym, nil, nil, false)
  config = found[:config]
  {
    name: name,
    box: config.vm.box,
    hostname: config.vm.hostname,
    networks: config.vm.networks.map { |kind, options| [kind, options[:ip]] },
    synced: config.vm.synced_folders.reject { |_, options| options[:disabled] }.keys,
    provisioners: config.vm.provisioners.map do |one|
      { name: one.name, type: one.type, run: one.run, args: one.type == :shell ? one.config.args : nil }
    end,
    customizations: config.vm.get_provider_config(provider.to_sym)&.customizations.to_a.map { |_, call| call.drop(2) }
  }
end
puts JSON.generate(
  machines: machines,
  primary: environment.primary_machine_name,
  parallel: ENV.fetch('VAGRANT_NO_PARALLEL', nil),
  prepared: environment.vagrantfile.config.trigger.before_triggers.map(&:command)
)
