# Runs a program on a Windows server. Written from the documentation of PowerShell and .NET, and not
# tried on a server.
#
# Set before, each as base64 of UTF-8: $file, the program; $arguments, its command line behind that,
# quoted as Windows has it; $folder, where it runs, or nothing. $limit: how many milliseconds it may
# run, or 0.
#
# Standard output leaves as base64 by standard output, error output in lines "!x BASE64" by error
# output, and the status as a line "!over STATUS" by both. Where the agent joins the two, the lines
# stand between the runs of base64.

$ErrorActionPreference = "Stop"
$ProgressPreference = "SilentlyContinue"

function ConvertFrom-Word([string]$word) {
    [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($word))
}

# Written as bytes: PowerShell would encode text for the console of the server, and break its lines.
function Write-Line([IO.Stream]$stream, [string]$text) {
    $line = [Text.Encoding]::ASCII.GetBytes($text + "`n")
    $stream.Write($line, 0, $line.Length)
    $stream.Flush()
}

$output = [Console]::OpenStandardOutput()
$errors = [Console]::OpenStandardError()

$start = New-Object Diagnostics.ProcessStartInfo
$start.FileName = ConvertFrom-Word $file
$start.Arguments = ConvertFrom-Word $arguments
if ($folder) { $start.WorkingDirectory = ConvertFrom-Word $folder }
$start.UseShellExecute = $false
$start.CreateNoWindow = $true
$start.RedirectStandardInput = $true
$start.RedirectStandardOutput = $true
$start.RedirectStandardError = $true

Write-Line $output "!windows"
try {
    $process = [Diagnostics.Process]::Start($start)
}
catch {
    $why = [Text.Encoding]::UTF8.GetBytes($_.Exception.GetBaseException().Message)
    Write-Line $output ("!unstartable " + [Convert]::ToBase64String($why))
    exit 1
}
$process.StandardInput.Close()
Write-Line $output "!running"

# 3,072 bytes make a line that is not too long for the client.
$outputBuffer = New-Object byte[] 49152
$errorBuffer = New-Object byte[] 3072
$fromOutput = $process.StandardOutput.BaseStream
$fromErrors = $process.StandardError.BaseStream
$outputRead = $fromOutput.ReadAsync($outputBuffer, 0, $outputBuffer.Length)
$errorRead = $fromErrors.ReadAsync($errorBuffer, 0, $errorBuffer.Length)

$status = ""
$watch = [Diagnostics.Stopwatch]::StartNew()
$nextBeat = 3000
while ($outputRead -or $errorRead) {
    $reads = [Threading.Tasks.Task[]]@(@($outputRead, $errorRead) | Where-Object { $_ })
    [void][Threading.Tasks.Task]::WaitAny($reads, 200)
    if ($outputRead -and $outputRead.IsCompleted) {
        $length = $outputRead.Result
        if ($length -gt 0) {
            Write-Line $output ([Convert]::ToBase64String($outputBuffer, 0, $length))
            $outputRead = $fromOutput.ReadAsync($outputBuffer, 0, $outputBuffer.Length)
        }
        else { $outputRead = $null }
    }
    if ($errorRead -and $errorRead.IsCompleted) {
        $length = $errorRead.Result
        if ($length -gt 0) {
            Write-Line $errors ("!x " + [Convert]::ToBase64String($errorBuffer, 0, $length))
            $errorRead = $fromErrors.ReadAsync($errorBuffer, 0, $errorBuffer.Length)
        }
        else { $errorRead = $null }
    }
    if ($watch.ElapsedMilliseconds -ge $nextBeat) {
        $nextBeat += 3000
        Write-Line $output "!beat"
    }
    if ($limit -gt 0 -and -not $status -and $watch.ElapsedMilliseconds -ge $limit) {
        $status = "limit"
        # With all that it has started.
        & taskkill.exe /T /F /PID $process.Id 2>&1 | Out-Null
    }
}
$process.WaitForExit()
if (-not $status) { $status = [string]$process.ExitCode }
Write-Line $errors "!over $status"
Write-Line $output "!over $status"
