# Completion of convsync for fish.
function __convsync_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in (env _CONVSYNC_COMPLETE=fish $before[1] $before[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':dir'
                __fish_complete_directories $current
            case ':file'
                __fish_complete_path $current
            case '*'
                echo $line
        end
    end
end
complete --command convsync --no-files --keep-order --arguments '(__convsync_complete)'
